"""How much memory a training takes, and how that grows with the number of images."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ilk.research.bench.drawn_photos import photo_like
from ilk.research.bench.timing import Conditions, Measurement

PART = "memory"
SIDE, BATCH, STEPS = 32, 256, 8
FEW, MANY = 10_000, 200_000


def memory_measurements(conditions: Conditions) -> list[Measurement]:
    """The peak memory of a few steps on a cache of few and of many images, each in its own process."""
    found = []
    for n in (FEW, MANY):
        cache = write_cache(conditions.scratch / f"cache-{n}.npy", n, conditions.seed)
        try:
            seen = [in_own_process(cache, conditions.device) for _ in range(conditions.smaller(3, 1))]
        except OSError as why:
            return [Measurement(part=PART, name="training on a cache", unit="bytes", values=[], note=str(why))]
        finally:
            cache.unlink()
        name = f"ilk, training on {n:,} images of {SIDE} px"
        for kind, about in (("anonymous", "without the page cache"), ("device", "on the device")):
            values = [float(one[kind]) for one in seen if one[kind] is not None]
            if values:
                found.append(
                    Measurement(part=PART, name=f"{name}, {about}", unit="bytes", values=values, more={"images": n})
                )
        conditions.watch.progress(len(found), 2, "measuring memory")
    return found


def growth(found: list[Measurement]) -> float | None:
    """The bytes per image by which memory grows, page cache not counted, from few images to many."""
    mine = [one for one in found if one.part == PART and one.median is not None and "page cache" in one.name]
    if len(mine) < 2:
        return None
    few, many = min(mine, key=images_of), max(mine, key=images_of)
    return (many.median - few.median) / (images_of(many) - images_of(few))  # type: ignore[operator]  # both are there


def images_of(line: Measurement) -> int:
    return int(line.more["images"])


def write_cache(path: Path, n: int, seed: int) -> Path:
    """An array file of n images like a cache, (n, 3, 32, 32), written block by block."""
    block = photo_like(1000, SIDE, seed).transpose(0, 3, 1, 2)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(n, 3, SIDE, SIDE))
    del array  # the header is on disk; pages written through the map would count as memory of this process
    with open(path, "r+b") as stream:
        stream.seek(path.stat().st_size - n * 3 * SIDE * SIDE)
        for start in range(0, n, len(block)):
            stream.write(np.ascontiguousarray(block[: n - start]).data)
    return path


def in_own_process(cache: Path, device: str, *, batch: int = BATCH, steps: int = STEPS) -> dict[str, Any]:
    """What `child` reports. Raises OSError where the system does not report it."""
    if not Path("/proc/self/status").is_file():
        raise OSError("only Linux reports a process's own memory without the page cache")
    code = "import sys; from ilk.research.bench.memory import child; child(*sys.argv[1:3], *map(int, sys.argv[3:]))"
    words = [str(cache), device, str(batch), str(steps)]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise RuntimeError(f"The training that was to be measured failed: {done.stderr.strip().splitlines()[-1]}")
    reported: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return reported


def child(cache: str, device: str, batch: int, steps: int) -> None:
    """Prints what `peaks` finds as JSON; runs in a process of its own."""
    print(json.dumps(peaks(Path(cache), device, batch=batch, steps=steps)))


def peaks(cache: Path, device: str, *, batch: int, steps: int) -> dict[str, int | None]:
    """Trains a few steps on the cache and returns the peak of anonymous memory and of the device (None on a CPU)."""
    import torch

    from ilk.images import Images
    from ilk.research.bench.step_speed import Shape, begin, one_pass
    from ilk.system.devices import choose_precision, make_fabric

    images = Images(np.load(cache, mmap_mode="r"), fingerprint="bench")
    with Peak() as peak:
        fabric = make_fabric(device, choose_precision("auto", device))
        _, loop = begin(Shape("cc", "small", SIDE, 3, batch), images, fabric)
        one_pass(loop, steps)
    on_device = torch.cuda.max_memory_allocated() if device.startswith("cuda") else None
    return {"anonymous": peak.bytes, "device": on_device}


class Peak:
    """The peak of this process's anonymous memory while it lasts, sampled every 5 ms."""

    def __init__(self) -> None:
        self.bytes, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def __enter__(self) -> Peak:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.bytes = max(self.bytes, anonymous())

    def look(self) -> None:
        while not self.over.wait(0.005):
            self.bytes = max(self.bytes, anonymous())


def anonymous() -> int:
    """The anonymous memory of this process in bytes (RssAnon); Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("the system does not report the process's anonymous memory")
