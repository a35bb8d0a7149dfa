"""The small pictures and folders that tests of images share."""

from image_fixtures import decodes, encode, photo, photos

__all__ = ["decodes", "encode", "photo", "photos"]
