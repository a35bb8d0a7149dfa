"""The methods, batches and pictures that tests of methods share."""

from method_fixtures import batch, build, decide, encode, three_kinds

__all__ = ["batch", "build", "decide", "encode", "three_kinds"]
