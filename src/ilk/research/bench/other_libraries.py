"""The same work done by torchvision, kornia and a plain training loop, where they are installed."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ilk.methods.base import Method
from ilk.views import ViewRecipe


class Missing(Exception):
    """Another library is not available here; the text says why."""


def import_or_missing(name: str) -> Any:
    """A module of another library. Raises Missing where it is not installed or cannot be imported."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise Missing(f"not installed (pip install {name.split('.')[0]})") from None
    except Exception as error:  # a build for another torch fails in many ways
        raise Missing(f"{name.split('.')[0]} does not load ({type(error).__name__})") from None


def torchvision_views(recipe: ViewRecipe, size: int) -> Callable[[Image.Image], Tensor]:
    """SimCLR's list for one Pillow image, with the ranges of `recipe`."""
    t = import_or_missing("torchvision.transforms")
    jitter = t.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    steps = [
        t.RandomResizedCrop(size, scale=recipe.crop_scale, ratio=recipe.crop_ratio),
        t.RandomHorizontalFlip(recipe.flip),
        t.RandomApply([jitter], recipe.jitter),
        t.RandomGrayscale(recipe.gray),
    ]
    if recipe.blur:
        kernel = max(3, round(23 * size / 224) // 2 * 2 + 1)
        sigma = tuple(max(0.05, value * size / 224) for value in recipe.blur_sigma)
        steps.append(t.RandomApply([t.GaussianBlur(kernel, sigma)], recipe.blur))
    result: Callable[[Image.Image], Tensor] = t.Compose([*steps, t.ToTensor()])
    return result


def kornia_views(recipe: ViewRecipe, size: int) -> Callable[[Tensor], Tensor]:
    """The same list for a batch of floats, (b, 3, h, w) in [0, 1]."""
    k = import_or_missing("kornia.augmentation")
    jitter = k.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue, p=recipe.jitter)
    steps = [
        k.RandomResizedCrop((size, size), scale=recipe.crop_scale, ratio=recipe.crop_ratio),
        k.RandomHorizontalFlip(p=recipe.flip),
        jitter,
        k.RandomGrayscale(p=recipe.gray),
    ]
    if recipe.blur:
        kernel = max(3, round(23 * size / 224) // 2 * 2 + 1)
        sigma = tuple(max(0.05, value * size / 224) for value in recipe.blur_sigma)
        steps.append(k.RandomGaussianBlur((kernel, kernel), sigma, p=recipe.blur))
    return torch.nn.Sequential(*steps)


class Pairs(Dataset[Any]):
    """Two random views of each picture of an array (n, h, w, 3), as the published code makes them."""

    def __init__(self, pixels: np.ndarray, transform: Callable[[Image.Image], Tensor]) -> None:
        self.pixels, self.transform = pixels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, int]:
        picture = Image.fromarray(self.pixels[i])
        return self.transform(picture), self.transform(picture), i


def loader(data: Any, batch: int, workers: int, *, shuffle: bool = True, pin: bool = False) -> Any:
    """A DataLoader as people set it up; its workers stay for the next pass."""
    return DataLoader(
        data, batch, shuffle=shuffle, num_workers=workers, drop_last=shuffle, pin_memory=pin,
        persistent_workers=workers > 0,
    )  # fmt: skip


def close(loaded: Any) -> None:
    """Ends the workers of a DataLoader, which would slow down the next measurement."""
    iterator = getattr(loaded, "_iterator", None)
    if iterator is not None and hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()
        loaded._iterator = None


def image_folder(folder: Any, size: int) -> Any:
    """torchvision's ImageFolder with its Resize, giving uint8 tensors."""
    datasets, t = import_or_missing("torchvision.datasets"), import_or_missing("torchvision.transforms")
    try:
        return datasets.ImageFolder(str(folder), t.Compose([t.Resize((size, size)), t.PILToTensor()]))
    except FileNotFoundError:
        raise Missing("ImageFolder needs sub-folders of images") from None


class PlainTraining:
    """The same method trained as in published code: float32, contiguous, torchvision's views in a DataLoader.

    Heads and losses are those of ilk.
    """

    def __init__(
        self, method: Method, pixels: np.ndarray, recipe: ViewRecipe, *, batch: int, workers: int, device: str
    ) -> None:
        self.device, self.batch = torch.device(device), batch
        transform = torchvision_views(recipe, pixels.shape[1])
        self.method = copy.deepcopy(method).to(self.device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.method.train()
        self.optimizer = torch.optim.Adam(self.method.parameters(), 1e-3)
        self.loader = loader(Pairs(pixels, transform), batch, workers, pin=self.device.type == "cuda")

    def __call__(self) -> None:
        """One pass over the pictures."""
        for view_a, view_b, index in self.loader:
            on_device = [x.to(self.device, non_blocking=True) for x in (view_a, view_b, index)]
            terms = self.method(*on_device)
            self.optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            self.optimizer.step()
            self.method.after_step()

    def close(self) -> None:
        close(self.loader)
