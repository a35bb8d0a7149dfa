"""Small pictures made on the spot; imported by the conftest.py of each folder with tests of images."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """A Pillow image or a uint8 array as the bytes of a file."""

    def make(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
        if isinstance(picture, np.ndarray):
            picture = Image.fromarray(picture)
        stream = BytesIO()
        picture.save(stream, kind, **options)
        return stream.getvalue()

    return make


@pytest.fixture
def photo(encode: Callable[..., bytes]) -> Callable[..., bytes]:
    """A PNG of noise, another for each number, coloured unless `gray`."""

    def make(number: int, size: tuple[int, int] = (8, 8), gray: bool = False) -> bytes:
        random = np.random.default_rng(number)
        return encode(random.integers(0, 256, size if gray else (*size, 3), dtype=np.uint8))

    return make


@pytest.fixture
def photos(tmp_path: Path, photo: Callable[..., bytes]) -> Path:
    """A folder `photos` of seven coloured pictures in two sub-folders and none."""
    folder = tmp_path / "photos"
    for number, name in enumerate(["cat/a.png", "cat/b.png", "cat/c.png", "dog/a.png", "dog/b.png", "dog/c.png"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo(number))
    (folder / "stray.png").write_bytes(photo(6))
    return folder


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one for each picture that is decoded."""
    from ilk.images import decode_source

    calls: list[object] = []
    real = decode_source.decode

    def counted(item: object, size: int, resize: str) -> object:
        calls.append(item)
        return real(item, size, resize)

    monkeypatch.setattr(decode_source, "decode", counted)
    return calls
