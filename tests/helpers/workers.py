"""Processes that tests start, stop and kill: forked from one that has torch already, so that each costs a blink.

Nothing here imports pytest: the functions run in the children.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from places import HELPERS

PRELOADED = (
    "torch", "torch.distributed", "lightning_fabric", "scipy.cluster.hierarchy", "scipy.optimize", "sklearn.cluster",
    "sklearn.metrics", "pyarrow.parquet", "PIL.PngImagePlugin", "PIL.WebPImagePlugin", "safetensors.torch",
    "ilk.pipeline.fitting", "ilk.pipeline.predicting", "ilk.pipeline.export", "workers",
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.utime", "os.link")


def context() -> Any:
    """A server to fork from, without threads, which has loaded what takes long; started at its first use."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(PRELOADED))
    return found


def started(work: Callable[..., None], *arguments: Any) -> Any:
    """A child that runs `work(*arguments)`."""
    kept = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ |= {
        "PYTHONPATH": os.pathsep.join([str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    try:
        child = context().Process(target=work, args=arguments, daemon=True)
        child.start()
        return child
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def ended(children: Sequence[Any], seconds: float) -> list[int | None]:
    """The exit codes of the children after at most so many seconds; who is then still at work is killed: None."""
    end, codes = time.monotonic() + seconds, []
    for child in children:
        child.join(max(0.0, end - time.monotonic()))
        codes.append(child.exitcode)
    for child in children:
        if child.exitcode is None:
            child.kill()
            child.join(10)
    return codes


def run_alone(work: Callable[..., None], *arguments: Any, seconds: float = 120) -> int | None:
    """The exit code of one child; minus the signal that ended it."""
    return ended([started(work, *arguments)], seconds)[0]


class Killer:
    """Kills its process at the `number`-th (from 1) time that it changes a file below `folder`; 0: only counts.

    Every opening for writing, replacing, removing, and so on is seen before it is done; a call of fsync, when
    the data is in the file and nothing else is done yet, counts too.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number, self.seen = str(folder), number, 0
        self.fsync = os.fsync
        os.fsync = self.synced  # type: ignore[assignment]
        sys.addaudithook(self.heard)

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not (isinstance(flags, int) and flags & WRITING):
                return
        elif event in CHANGES:
            path = arguments[1] if event == "os.link" else arguments[0]
        else:
            return
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self.folder):
            self.count()

    def synced(self, descriptor: Any) -> None:
        self.fsync(descriptor)
        self.count()

    def count(self) -> None:
        self.seen += 1
        if self.seen == self.number:
            os.kill(os.getpid(), signal.SIGKILL)


def settle() -> None:
    """What every child does first: one thread, a checkpoint after every epoch, features saved after every batch."""
    import torch

    import ilk.training.encode
    import ilk.training.loop

    torch.set_num_threads(1)
    ilk.training.loop.CHECKPOINT_EVERY = -1.0
    ilk.training.encode.SAVE_EVERY = -1.0
    ilk.training.encode.BATCH["cpu"] = 16


def request(method: str, **asked: Any) -> Any:
    """A training of 60 images in a second; clusters start at half of it."""
    from ilk.methods import get_preset
    from ilk.pipeline.request import Request

    settings: dict[str, Any] = {
        "batch_size": 30, "warm_start": 0.5, "cluster_heads": 2, "hidden_dim": 32, "learning_rate": 2e-3,
    }  # fmt: skip
    preset = get_preset(method, "default")
    settings = {name: value for name, value in settings.items() if any(hasattr(part, name) for part in preset[:2])}
    asked = {"epochs": 3, "backbone": "small", "views": "object", "settings": settings, **asked}
    return Request(n_clusters=2, method=method, device="cpu", precision="float32", **asked)


def do(phase: str, method: str, source: Path, home: Path, resume: bool) -> None:
    """One piece of work on the images of `source`, all that it writes being below `home`."""
    from ilk.pipeline.export import export_folders
    from ilk.pipeline.fitting import fit
    from ilk.pipeline.predicting import predict
    from ilk.reports import write_report
    from ilk.runs.folder import Run

    if phase == "fit":
        fit(request(method), source, Run(home / "run"), labels="folders", resume=resume, cache_dir=home / "cache")
    elif phase == "encoder":
        heads = request(method, backbone=f"run:{source.parent / 'trained'}", settings={}, views=None, feature_views=1)
        fit(heads, source, Run(home / "run"), labels="folders", resume=resume, cache_dir=home / "cache")
    elif phase == "predict":
        predict(Run(source.parent / "trained"), source, home / "run", cache_dir=home / "cache")
    elif phase == "report":
        with Run(home / "run").working():
            write_report(home / "run")
    elif phase == "export":
        export_folders(Run(source.parent / "trained"), home / "sorted")


def attempt(phase: str, method: str, source: Path, home: Path, number: int, counted: Path | None = None) -> None:
    """`do`, killed at the `number`-th change of a file; writes to `counted` how many there were if it was not."""
    settle()
    killer = Killer(home, number)
    do(phase, method, source, home, False)
    if counted is not None:
        counted.write_text(str(killer.seen))


def again(phase: str, method: str, source: Path, home: Path) -> None:
    """The same with `--resume`."""
    settle()
    do(phase, method, source, home, True)


def meet(rank: int, world: int, folder: Path) -> None:
    """Makes this process one of `world` that torchrun might have started; they meet at a file, so no port is taken."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
        "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )


def methods_in_two(rank: int, folder: Path, names: Sequence[str]) -> None:
    """Saves the float64 loss and averaged gradients of each method on its half of a batch, and a training's state."""
    import torch
    from torch import nn

    from ilk.networks.batch_norm import share_statistics

    meet(rank, 2, folder)
    for name in names:
        method = method_in_float64(name)
        share_statistics(method, torch.device("cpu"))
        model = nn.parallel.DistributedDataParallel(method, find_unused_parameters=True, broadcast_buffers=False)
        torch.save(gradients_of(model, method, batch_of(rank, 2)), folder / f"{name}-{rank}.pt")
    for name in names:
        method, records = short_training(name)
        torch.save((method.state_dict(), records), folder / f"{name}-trained-{rank}.pt")
    leave()


def leave() -> None:
    import torch.distributed as dist

    dist.barrier()
    dist.destroy_process_group()


def method_in_float64(name: str) -> Any:
    """A method with BatchNorm in training mode, past its start."""
    import torch

    from ilk.methods import get_method, get_preset
    from ilk.methods.records import override
    from ilk.networks.backbones import build_backbone

    wanted = {"cluster_heads": 2, "warm_start": 0, "batch_parts": 1, "hidden_dim": 16, "embedding_dim": 8}
    preset = get_preset(name, "default")
    settings = {key: value for key, value in wanted.items() if hasattr(preset.config, key)}
    torch.manual_seed(3)
    backbone = build_backbone("small", image_size=8, in_channels=1)
    method = get_method(name)(backbone, 3, 24, override(preset, settings).config)
    method.start_epoch(0, 1, no_features, 0)
    return method.double().train()


def no_features(m: int) -> Any:
    raise AssertionError("nothing is to be started from features here")


def batch_of(rank: int, world: int) -> tuple[Any, Any, Any]:
    """Two views of 16 images and their numbers; the part of one process."""
    import torch

    g = torch.Generator().manual_seed(5)
    a, b = (torch.rand(16, 1, 8, 8, generator=g, dtype=torch.float64) for _ in "ab")
    rows = slice(rank * 16 // world, (rank + 1) * 16 // world)
    return a[rows], b[rows], torch.randperm(24, generator=g)[:16][rows]


def gradients_of(model: Any, method: Any, batch: tuple[Any, Any, Any]) -> dict[str, Any]:
    """The terms' sum, and by name the gradients and the buffers after the step."""
    from unittest.mock import patch

    import torch

    with patch.object(torch.Tensor, "float", torch.Tensor.double):  # losses are computed in float32, else
        loss = torch.stack(list(model(*batch).values())).sum()
        loss.backward()
        method.after_step()
    grads = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), "gradients": grads, "buffers": dict(method.named_buffers())}


def short_training(name: str, seed: int = 0) -> tuple[Any, list[dict[str, Any]]]:
    """Four epochs on 60 digits in however many processes there are; clusters start in the third."""
    from sklearn.datasets import load_digits

    from ilk.images import load_images
    from ilk.pipeline.begin import new_training
    from ilk.system.devices import make_fabric
    from ilk.training.loop import train

    digits = load_digits()
    images = load_images((digits.images[:70] * 15).astype("uint8"))
    fabric = make_fabric("cpu", "float32")
    training = new_training(request(name, epochs=4, seed=seed), images, fabric)
    return training.method, list(train(training.method, images, training.views, training.train, fabric))


def fit_in_two(rank: int, world: int, folder: Path, source: Path, home: Path, stop: int, dies: int) -> None:
    """`fit --resume` and `predict` by `world` processes; in step `stop` (0: never) all end, or only `dies`, killed.

    Ends with 7 where it was stopped so, with 3 and its sentence in `folder` where another one was lost.
    """
    from ilk.pipeline.fitting import fit
    from ilk.pipeline.predicting import predict
    from ilk.runs.folder import Run
    from ilk.system.processes import PeerLost

    settle()
    if world > 1:
        meet(rank, world, folder)
    if stop:
        end_in_step(stop, rank, dies)
    run = Run(home / "run")
    try:
        fit(request("cc", epochs=4), source, run, labels="folders", resume=True, cache_dir=home / "cache")
    except PeerLost as error:
        (folder / "lost").write_text(str(error))
        os._exit(3)
    predict(run, source, home / f"by {world}", cache_dir=home / "cache")
    if world > 1:
        leave()


def end_in_step(stop: int, rank: int, dies: int) -> None:
    import ilk.training.epoch

    rate = ilk.training.epoch.learning_rate

    def learning_rate(step: int, total: int, config: Any) -> float:
        if step + 1 == stop and dies < 0:
            os._exit(7)
        if step + 1 == stop and rank == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return rate(step, total, config)

    ilk.training.epoch.learning_rate = learning_rate


def hold(folder: Path, ready: Path) -> None:
    """Holds the lock on `folder` until it is killed."""
    from ilk.system.lock import held

    with held(folder):
        ready.touch()
        time.sleep(600)


def race(folder: Path, gate: Path, results: Path) -> None:
    """Starts at the same moment as others, and writes down whether the folder was ours to make a run in."""
    from ilk.runs.folder import Run
    from ilk.system.lock import InUse

    while not gate.exists():
        time.sleep(0.001)
    run = Run(folder)
    try:
        with run.working():
            run.refuse_used()
            time.sleep(0.05)
            (run / "config.json").write_text(str(os.getpid()))
            answer = "won"
    except (InUse, FileExistsError) as error:
        answer = type(error).__name__
    (results / str(os.getpid())).write_text(answer)


def on_a_full_disk(source: Path, home: Path, name: str, most: int) -> None:
    """`fit --resume` where no file may pass `most` bytes, from the moment that `name` is written."""
    import resource

    import ilk.system.files
    from ilk.pipeline.fitting import fit
    from ilk.runs.folder import Run
    from ilk.system.files import DiskFull

    settle()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    real_open = ilk.system.files.os.open

    def opened(path: Any, *rest: Any, **named: Any) -> int:
        if Path(path).name.startswith(name):
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        return real_open(path, *rest, **named)

    os.open = opened  # type: ignore[assignment]
    try:
        fit(request("cc"), source, Run(home / "run"), labels="folders", resume=True, cache_dir=home / "cache")
    except DiskFull as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        (home / "said").write_text(str(error))
        os._exit(5)
