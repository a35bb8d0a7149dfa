"""With which versions, on which machine."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import torch

PACKAGES = ("torch", "lightning-fabric", "numpy", "scipy", "scikit-learn", "pillow", "pyarrow", "safetensors")


def versions() -> dict[str, str]:
    """What this run was made with: ilk, Python, the packages that matter, and the machine."""
    found = {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for name in ("ilk", *PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found
