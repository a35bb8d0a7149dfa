"""The versions and the machine that a run is made with."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import torch

PACKAGES = ("torch", "lightning-fabric", "numpy", "scipy", "scikit-learn", "pillow", "pyarrow", "safetensors")


def versions() -> dict[str, str]:
    """The versions of ilk, Python and the main packages, and the machine, by name."""
    versions_by_name = {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for name in ("ilk", *PACKAGES):
        try:
            versions_by_name[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions_by_name[name] = "unknown"
    if torch.cuda.is_available():
        versions_by_name["gpu"] = torch.cuda.get_device_name()
    return versions_by_name
