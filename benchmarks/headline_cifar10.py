"""CIFAR-10 from scratch: accuracy of CC against wall-clock minutes on one GPU, in pieces of a few minutes each.

    python benchmarks/headline_cifar10.py FILE.npz --out runs/headline --stop-after 9
    python benchmarks/headline_cifar10.py FILE.npz --out runs/headline --stop-after 9 --resume   # until it is done

DATA is a .npz file (x uint8, y) or sets.py:NAME, a Python file whose `load(NAME)` returns images and
labels. All images are trained on and scored together, train and test split alike, as the papers do.

What is measured. The curve (OUT/curve.jsonl, a line every --score-every epochs) is the accuracy under the
best matching of clusters and labels at that moment. Labels do nothing but score: the result is that of the
last epoch, and its cluster head is the one with the lowest running loss. `training_minutes` counts the
training alone, `wall_minutes` everything from the start of each piece, scoring and lost epochs too.

The recipe, and why.
- ResNet-18 with the CIFAR stem (3x3, no pooling): at 32 pixels the published network would throw away
  three quarters of the positions in its first layer.
- CC's default preset: features alone for the first half, then ten cluster heads that start from
  partitions of the features. From a random start the clusters settle before the features are good.
- Batch 512 and Adam at 1e-3: twice the paper's batch keeps a GPU busy, and each image has 1,022
  negatives; the rate grows with the batch as Adam's usually does. Half a cosine to zero after 500
  steps of linear rise, because the result is that of the last epoch, not of the best.
- Temperature 0.5, the paper's: the default's 0.3 was found in trainings of a minute or two, this one is long.
- Views `cc`: the list CC publishes for CIFAR (crops of 8-100 %, jitter, gray, no blur).
- 200 epochs: what a GPU does in minutes, not hours; the paper trains 1,000.
- On a GPU ilk computes in bf16 with channels_last and keeps the set there as uint8 (184 MB); nothing has to be asked.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from ilk import load_images
from ilk.analysis.metrics import effective_clusters, score
from ilk.images import Images
from ilk.pipeline.build import save_model
from ilk.pipeline.plan import Plan, make_plan
from ilk.pipeline.prepare import reopen
from ilk.pipeline.request import Request, device_and_precision
from ilk.pipeline.workflow import circumstances, finish, start
from ilk.runs.folder import Run
from ilk.system.devices import OutOfMemory, make_fabric
from ilk.system.files import read_json, read_json_lines, write_json, write_text
from ilk.system.progress import Watch, epoch_line
from ilk.training.assign import assign
from ilk.training.loop import TrainingDiverged, train
from ilk.training.snapshots import Moments

CLUSTERS = 10
RECIPE = {
    "batch_size": 512, "learning_rate": 1e-3, "warmup": 500, "schedule": "cosine", "instance_temperature": 0.5,
}  # fmt: skip
LABELS = "accuracy, NMI and ARI are computed with labels; nothing is chosen by them"


def open_data(text: str, first: int | None = None) -> Images:
    """The labelled images of FILE.npz or FILE.py:NAME, or the first so many of them."""
    place, colon, name = text.rpartition(":")
    if colon and place.endswith(".py"):
        spec = importlib.util.spec_from_file_location("sets", place)
        if spec is None or spec.loader is None or not Path(place).is_file():
            raise FileNotFoundError(f"There is no file '{place}'. Give FILE.npz or FILE.py:NAME.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = module.load(name)
        x, y = found.images, found.labels
    else:
        if not Path(text).is_file():
            raise FileNotFoundError(f"There is no file '{text}'. Give FILE.npz or FILE.py:NAME.")
        with np.load(text, allow_pickle=False) as kept:
            missing = {"x", "y"} - set(kept.files)
            if missing:
                raise ValueError(f"'{text}' lacks {' and '.join(sorted(missing))}; it needs x (images) and y (labels).")
            x, y = kept["x"], kept["y"]
    return load_images(x[:first], image_size=x.shape[1], labels=[str(one) for one in y[:first]])


def parsed(settings: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in settings]
    wrong = [name for name, sign, value in pairs if not (name and sign and value)]
    if wrong:
        raise ValueError(f"--set takes NAME=VALUE; got '{wrong[0]}'.")
    return {name: value for name, _, value in pairs}


class Clock:
    """The wall-clock minutes of all pieces of one run, kept in its folder, and of this piece."""

    def __init__(self, run: Run, began: float) -> None:
        self.file, self.began = run / "clock.json", began
        self.before = float(read_json(self.file)["seconds"]) if self.file.is_file() else 0.0

    def minutes(self) -> float:
        return (self.before + time.monotonic() - self.began) / 60

    def save(self) -> None:
        write_json(self.file, {"seconds": 60 * self.minutes()})


def line_of(record: dict[str, Any], plan: Plan, images: Images, fabric: Fabric, clock: Clock) -> dict[str, Any]:
    """A point of the curve; no scores while the method has no clusters."""
    line = {
        "seed": plan.train.seed, "epoch": record["epoch"], "epochs": record["epochs"], "images": len(images),
        "training_minutes": round(record["seconds"] / 60, 4), "loss": record["loss"], "accuracy": None,
        "scores": LABELS,
    }  # fmt: skip
    if record["confidence"] is not None:
        found = assign(plan.method, images, fabric)
        assert images.labels is not None  # open_data gives them
        line |= {name: score(images.labels, found.cluster)[name] for name in ("accuracy", "nmi_arithmetic", "ari")}
        line["effective_clusters"] = round(effective_clusters(found.cluster), 2)
    return line | {"wall_minutes": round(clock.minutes(), 4)}


class Curve:
    """The file of points: one JSON line each, of several seeds."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def lines(self) -> list[dict[str, Any]]:
        return read_json_lines(self.file) if self.file.is_file() else []

    def cut(self, seed: int, epochs: int) -> None:
        """Forgets the points of epochs that are done again."""
        kept = [line for line in self.lines() if line["seed"] != seed or line["epoch"] <= epochs]
        write_text(self.file, "".join(json.dumps(line) + "\n" for line in kept))

    def append(self, line: dict[str, Any]) -> None:
        with open(self.file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def opened(
    request: Request, images: Images, run: Run, fabric: Fabric, precision: str, resume: bool
) -> tuple[Images, Plan]:
    """The plan of a new run, written down, or that of one that is to go on."""
    if run.exists and not resume:
        raise FileExistsError(f"'{run}' holds a run already. Add --resume to go on with it, or choose another --out.")
    if run.exists:
        refuse_changed(run, make_plan(request, images, fabric))
        return reopen(request, images, run, None, fabric, None, None, Watch())
    run.refuse_used()
    plan = make_plan(request, images, fabric)
    start(plan, images, run, circumstances(images, str(fabric.device), precision, sys.argv), Watch())
    return images, plan


def refuse_changed(run: Run, asked: Plan) -> None:
    """Raises ValueError where a run would go on with other settings than it began with."""
    began = run.open().config
    for part in ("train", "method_config"):
        for name, value in asked.config[part].items():
            if value != began[part].get(name):
                raise ValueError(
                    f"'{run}' began with {name} {began[part].get(name)}, now it is {value}. Give the settings that it"
                    " began with, or choose another --out."
                )
    for name, before, now in (
        ("the backbone", began["backbone"], asked.config["backbone"]),
        ("the views", began["views"]["name"], asked.config["views"]["name"]),
    ):
        if before != now:
            raise ValueError(f"'{run}' began with {name} {before}, now it is {now}. Choose another --out.")


def epochs_of(run: Run, plan: Plan, images: Images, fabric: Fabric, curve: Curve) -> Iterator[dict[str, Any]]:
    """Trains from the last checkpoint on; what is logged of later epochs is forgotten first."""
    begun: list[int] = []

    def log(record: dict[str, Any]) -> None:
        if not begun:
            run.cut_log(record["epoch"] - 1)
            curve.cut(plan.train.seed, record["epoch"] - 1)
        run.append_log(record)
        begun.append(record["epoch"])

    return train(
        plan.method, images, plan.views, plan.train, fabric, checkpoint=run / "checkpoint.pt",
        moments=Moments(run / "moments.npz"), log=log,
    )  # fmt: skip


def train_one(
    request: Request, images: Images, run: Run, curve: Curve, *, resume: bool, every: int, began: float,
    out_of_time: Callable[[float], bool],
) -> bool:  # fmt: skip
    """Trains one seed until it is done (True) or there is no time for another epoch, or for the results (False)."""
    device, precision = device_and_precision(request)
    fabric = make_fabric(device, precision)
    with run.working():
        images, plan = opened(request, images, run, fabric, precision, resume)
        clock, longest = Clock(run, began), 0.0
        before = time.monotonic()
        try:
            with closing(epochs_of(run, plan, images, fabric, curve)) as records:
                for record in records:
                    last = record["epoch"] == record["epochs"]
                    if last or record["epoch"] % every == 0:
                        curve.append(line := line_of(record, plan, images, fabric, clock))
                        print(json.dumps(line), flush=True)
                    print(epoch_line(record), file=sys.stderr, flush=True)
                    clock.save()
                    now = time.monotonic()
                    longest, before = max(longest, now - before), now
                    if out_of_time(3 * longest if last else longest):  # after the last come assigning and a report
                        return False
        finally:
            clock.save()
        add_last(curve, run, plan, images, fabric, clock)
        save_model(run, plan.method)
        finish(run, plan, images, fabric, Watch(), warned=False)
        clock.save()
    return True


def add_last(curve: Curve, run: Run, plan: Plan, images: Images, fabric: Fabric, clock: Clock) -> None:
    """Adds the point of the last epoch where a kill came between its checkpoint and that."""
    record = run.log()[-1]
    if not any((line["seed"], line["epoch"]) == (plan.train.seed, record["epoch"]) for line in curve.lines()):
        curve.append(line := line_of(record, plan, images, fabric, clock))
        print(json.dumps(line), flush=True)


def summary(lines: list[dict[str, Any]], seeds: Sequence[int], epochs: int) -> str:
    """Mean and standard deviation of the last epoch's accuracy over the seeds that are done."""
    last = [line for line in lines if line["seed"] in seeds and line["epoch"] == line["epochs"] == epochs]
    accuracies = [line["accuracy"] for line in last]
    if not last or None in accuracies:
        return "no finished training has clusters yet"
    spread = f" +- {np.std(accuracies, ddof=1):.3f}" if len(last) > 1 else ""
    minutes = np.mean([line["wall_minutes"] for line in last])
    return (
        f"accuracy {np.mean(accuracies):.3f}{spread} ({last[0]['images']:,} images, {len(last)}"
        f" seed{'' if len(last) == 1 else 's'}, last epoch, scored with labels), {minutes:.1f} minutes a seed"
    )


def arguments_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="FILE.npz or FILE.py:NAME")
    parser.add_argument("--out", type=Path, default=Path("runs/headline"), help="one run folder a seed, and the curve")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--score-every", type=int, default=10, metavar="EPOCHS")
    parser.add_argument("--stop-after", type=float, metavar="MINUTES", help="leave after so long, to be resumed")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--backbone", default="resnet18-cifar")
    parser.add_argument("--views", default="cc")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another setting of CC")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N images, to try it out")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    return parser.parse_args(words)


def piece(arguments: argparse.Namespace) -> bool:
    """One piece of the work; whether all seeds are done."""
    began = time.monotonic()
    limit = math.inf if arguments.stop_after is None else 60 * arguments.stop_after
    if limit <= 0 or arguments.score_every < 1:
        raise ValueError("--stop-after must be more than 0 minutes, and --score-every at least 1.")

    def out_of_time(epoch: float) -> bool:
        return time.monotonic() - began + 1.5 * epoch > limit

    settings = {**RECIPE, **parsed(arguments.set)}
    images = open_data(arguments.data, arguments.first)
    arguments.out.mkdir(parents=True, exist_ok=True)
    curve, at = Curve(arguments.out / "curve.jsonl"), began
    for seed in arguments.seeds:
        run = Run(arguments.out / f"seed-{seed}")
        if arguments.resume and run.finished:
            continue
        request = Request(
            n_clusters=CLUSTERS, method="cc", backbone=arguments.backbone, views=arguments.views, seed=seed,
            epochs=arguments.epochs, settings=settings, device=arguments.device, precision=arguments.precision,
        )  # fmt: skip
        done = train_one(
            request, images, run, curve, resume=arguments.resume, every=arguments.score_every, began=at,
            out_of_time=out_of_time,
        )  # fmt: skip
        if not done:
            return False
        at = time.monotonic()
    print(summary(curve.lines(), arguments.seeds, arguments.epochs))
    return True


def main(words: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 3 to be resumed, 2 a mistake, 130 Ctrl-C."""
    arguments = arguments_of(words)
    try:
        code = 0 if piece(arguments) else 3
    except KeyboardInterrupt:
        code = 130
    except (ValueError, OSError, TrainingDiverged, OutOfMemory) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if code:
        print("Stopped. Go on with the same command and --resume.", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
