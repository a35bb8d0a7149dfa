"""The input layer: any source of pictures -> `Images`, n images behind one index."""

from .core import BadFile, Images
from .disk import default_cache_dir
from .load import load_images

__all__ = ["BadFile", "Images", "default_cache_dir", "load_images"]
