"""Networks from images to features: backbones, heads, memory banks and pretrained encoders."""
