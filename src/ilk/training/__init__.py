"""The training loop, checkpoints, and the assignment of images to clusters by a trained method."""
