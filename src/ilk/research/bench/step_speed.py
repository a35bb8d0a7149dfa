"""How fast a training step is, which parts take its time, and whether it waits for the device."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils._python_dispatch import TorchDispatchMode

from ilk.images import load_images
from ilk.methods import METHODS, get_preset
from ilk.pipeline.begin import new_training
from ilk.pipeline.build import Training
from ilk.pipeline.request import Request
from ilk.research.bench import other_libraries
from ilk.research.bench.drawn_photos import photo_like
from ilk.research.bench.timing import Case, Conditions, wait_for_device
from ilk.sampling import steps_of
from ilk.system.devices import make_fabric
from ilk.training.epoch import Loop, main_pass
from ilk.training.optimizer import make_optimizer
from ilk.views import get_views

PART = "train"
CLUSTERS, EPOCHS = 10, 2
LAST = EPOCHS - 1  # the epoch that is measured, in which cluster heads are trained in every step


@dataclass(frozen=True)
class Shape:
    """What is trained: a method, a backbone, images of `size` pixels with `channels`, in batches of `batch`."""

    method: str
    backbone: str
    size: int
    channels: int
    batch: int

    @property
    def views(self) -> str:
        """The views that such images get by default."""
        return "drawing" if self.channels == 1 else "photo"

    @property
    def name(self) -> str:
        kind = "gray" if self.channels == 1 else "RGB"
        return f"{self.method}, {self.backbone}, {self.size} px {kind}, batch {self.batch}"


def shapes(conditions: Conditions) -> list[tuple[Shape, bool]]:
    """What is measured, and whether a plain loop is measured too."""
    batch = conditions.smaller(256, 32)
    if conditions.on_gpu:
        found = [(Shape(method, "resnet18-cifar", 32, 3, batch), method == "cc") for method in METHODS]
        return [*found, (Shape("cc", "small", 32, 3, batch), True), (Shape("cc", "resnet18", 96, 3, batch), True)]
    found = [(Shape("cc", "small", 32, 3, batch), True), (Shape("cc", "small", 28, 1, batch), False)]
    if conditions.quick:
        return found
    others = [(Shape(method, "small", 28, 1, batch), False) for method in METHODS if method != "cc"]
    wide = (Shape("cc", "resnet18-cifar", 32, 3, 64), True)  # a quarter of the batch: a step takes seconds, not minutes
    return [*found, (Shape("cc", "small", 48, 3, batch), False), *others, wide]


def groups(conditions: Conditions) -> Iterator[list[Case]]:
    fabric = make_fabric(conditions.device, conditions.precision)
    for shape, compared in shapes(conditions):
        if conditions.on_gpu:
            yield cases(conditions, shape, compared, fabric, "GPU", conditions.cores)
            continue
        yield cases(conditions, shape, compared, fabric, "one core", 1)
        if conditions.cores > 1 and shape.method == "cc":
            yield cases(conditions, shape, compared, fabric, "all cores", conditions.cores)


def cases(conditions: Conditions, shape: Shape, compared: bool, fabric: Fabric, where: str, cores: int) -> list[Case]:
    """ilk's loop, and the plain loop if it is to be compared."""
    steps = conditions.smaller(4, 2) if shape.backbone == "small" or conditions.on_gpu else 1
    pixels = photo_like(shape.batch * steps, shape.size, conditions.seed)
    if shape.channels == 1:
        pixels = pixels.mean(3).astype("uint8")
    training, loop = begin(shape, load_images(pixels, image_size=shape.size), fabric)
    name = f"ilk {shape.name}, {where}"
    peak = {"device_bytes": peak_of(loop, steps, conditions)} if conditions.on_gpu else {}

    def after() -> dict[str, Any]:
        return {"shares": shares(loop, conditions), "waits": count_waits(loop), **peak}

    done = [Case(name=name, work=lambda: one_pass(loop, steps), count=shape.batch * steps, threads=cores, after=after)]
    if not compared:
        return done
    recipe, _ = get_views("cc")
    plain_name = f"plain {shape.name}, {where}"
    try:
        workers = cores if cores > 1 else 0
        plain = other_libraries.PlainTraining(
            training.method, pixels, recipe, batch=shape.batch, workers=workers, device=conditions.device
        )
    except other_libraries.Missing as why:
        return [*done, Case(name=plain_name, work=None, note=str(why), peer=True)]
    return [
        *done,
        Case(name=plain_name, work=plain, count=len(pixels), threads=cores, peer=True, close=plain.close),
    ]


def peak_of(loop: Loop, steps: int, conditions: Conditions) -> int:
    """The peak of the device's memory in a pass of ilk's loop; call it before anything else is on the device."""
    one_pass(loop, steps)  # kernels are chosen in the first pass
    wait_for_device(conditions)
    gc.collect()
    torch.cuda.reset_peak_memory_stats(conditions.device)
    one_pass(loop, steps)
    wait_for_device(conditions)
    return int(torch.cuda.max_memory_allocated(conditions.device))


def begin(shape: Shape, images: Any, fabric: Fabric) -> tuple[Training, Loop]:
    """A training in which every loss term is used from the first step, and the loop that does it."""
    settings: dict[str, Any] = {"batch_size": shape.batch}
    if hasattr(get_preset(shape.method, "default").config, "warm_start"):
        settings["warm_start"] = 0.0
    request = Request(
        n_clusters=CLUSTERS, method=shape.method, backbone=shape.backbone, views=shape.views, epochs=EPOCHS,
        settings=settings, device=str(fabric.device),
    )  # fmt: skip
    training = new_training(request, images, fabric)
    method = training.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # nn.Module.to takes it
    model, optimizer = fabric.setup(method, make_optimizer(method, training.train))
    loop = Loop(model, method, optimizer, training.views, training.train, fabric, images)

    def encode(m: int) -> torch.Tensor:
        rows = torch.arange(min(m, loop.n))
        with torch.no_grad():
            result: torch.Tensor = method.backbone(loop.source[rows.to(fabric.device)] / 255).float()
            return result

    method.start_epoch(LAST, EPOCHS, encode, 0)
    method.train()
    return training, loop


def one_pass(loop: Loop, steps: int) -> object:
    return main_pass(loop, LAST, steps)


class Timed:
    """Replaces `inner` and adds the time of each call (of `method`, if named) to `clock[part]`."""

    def __init__(self, inner: Any, part: str, clock: Counter[str], conditions: Conditions, method: str = "") -> None:
        self.inner, self.part, self.clock, self.conditions, self.method = inner, part, clock, conditions, method

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self.around(self.inner)(*given, **named)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return self.around(found) if name == self.method else found

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            wait_for_device(self.conditions)
            began = time.perf_counter()
            try:
                return call(*given, **named)
            finally:
                wait_for_device(self.conditions)
                self.clock[self.part] += time.perf_counter() - began  # type: ignore[assignment]  # seconds, not a count

        return wrapped


def shares(loop: Loop, conditions: Conditions) -> dict[str, float]:
    """The shares of the time of a pass spent on views, forward, backward and step; the rest is `other`."""
    clock: Counter[str] = Counter()
    kept = loop.views, loop.model, loop.fabric, loop.optimizer
    loop.views = Timed(loop.views, "views", clock, conditions)  # type: ignore[assignment]  # it stands in
    loop.model = Timed(loop.model, "forward", clock, conditions)
    loop.fabric = Timed(loop.fabric, "backward", clock, conditions, "backward")  # type: ignore[assignment]
    loop.optimizer = Timed(loop.optimizer, "step", clock, conditions, "step")
    try:
        wait_for_device(conditions)
        began = time.perf_counter()
        one_pass(loop, steps_of(loop.n, loop.config.batch_size))
        wait_for_device(conditions)
        total = time.perf_counter() - began
    finally:
        loop.views, loop.model, loop.fabric, loop.optimizer = kept
    found = {name: clock[name] / total for name in ("views", "forward", "backward", "step")}
    return {name: round(value, 3) for name, value in {**found, "other": 1 - sum(found.values())}.items()}


WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal")


class Waits(TorchDispatchMode):
    """Counts operations that make the program wait for the GPU.

    `on_cpu`: addresses of tensors that are on the CPU on any device, such as step numbers of optimisers.
    """

    def __init__(self, on_cpu: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no type here
        self.on_cpu = on_cpu
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITING and not (name == "_local_scalar_dense" and args[0].data_ptr() in self.on_cpu):
            self.counts[name] += 1
        elif name in ("index", "index_put_") and any(
            isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        ):
            self.counts["mask"] += 1
        return func(*args, **(kwargs or {}))


def count_waits(loop: Loop) -> dict[str, float]:
    """How many such operations a step has, by name; those once at the end of a pass are not counted."""
    states = loop.optimizer.state.values()
    on_cpu = {state["step"].data_ptr() for state in states if isinstance(state.get("step"), torch.Tensor)}
    after: list[Counter[str]] = [Counter()]  # the counts at the end of each step
    kept = loop.on_step
    try:
        with Waits(on_cpu) as seen:
            loop.on_step = lambda step, total: after.append(Counter(seen.counts))
            one_pass(loop, steps_of(loop.n, loop.config.batch_size))
    finally:
        loop.on_step = kept
    if len(after) > 2:
        del after[0]  # those once at the beginning of a pass
    first, last = after[0], after[-1]
    return {name: (last[name] - first[name]) / (len(after) - 1) for name in sorted(last) if last[name] != first[name]}
