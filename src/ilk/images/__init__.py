"""The input layer: any source of pictures -> `Images`, n images behind one index."""

from .core import BadFile, Images
from .load import load_images

__all__ = ["BadFile", "Images", "load_images"]
