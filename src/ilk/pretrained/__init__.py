"""Networks that others have trained, ready to turn images into features."""

from ilk.pretrained.encoder import Encoder, EncoderAbout
from ilk.pretrained.hf import load_hf
from ilk.pretrained.known import SHORT_NAMES, KnownEncoder
from ilk.pretrained.prepare import Preparation

__all__ = ["SHORT_NAMES", "Encoder", "EncoderAbout", "KnownEncoder", "Preparation", "load_hf"]
