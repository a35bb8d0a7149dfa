"""From any source of pictures to `Images`, n images behind one index."""

from ilk.images.cache_folder import default_cache_dir
from ilk.images.collection import BadFile, Images
from ilk.images.load import load_images

__all__ = ["BadFile", "Images", "default_cache_dir", "load_images"]
