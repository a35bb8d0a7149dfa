"""From an image to a feature: backbones, heads, memory banks and pretrained encoders."""
