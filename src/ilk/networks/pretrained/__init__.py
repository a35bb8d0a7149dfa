"""Pretrained encoders: networks that others have trained, which turn images into features."""

from ilk.networks.pretrained.encoder import Encoder, EncoderAbout
from ilk.networks.pretrained.hf import load_hf
from ilk.networks.pretrained.known import SHORT_NAMES, KnownEncoder
from ilk.networks.pretrained.prepare import Preparation

__all__ = ["SHORT_NAMES", "Encoder", "EncoderAbout", "KnownEncoder", "Preparation", "load_hf"]
