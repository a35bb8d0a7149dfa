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
import dataclasses
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import ilk
from ilk import Images, OutOfMemory, Run, TrainingDiverged, load_images
from ilk.analysis.metrics import effective_clusters, score
from ilk.methods import get_preset
from ilk.runs import read_table

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
        loaded = module.load(name)
        x, y = loaded.images, loaded.labels
    else:
        if not Path(text).is_file():
            raise FileNotFoundError(f"There is no file '{text}'. Give FILE.npz or FILE.py:NAME.")
        with np.load(text, allow_pickle=False) as stored:
            missing = {"x", "y"} - set(stored.files)
            if missing:
                raise ValueError(f"'{text}' lacks {' and '.join(sorted(missing))}; it needs x (images) and y (labels).")
            x, y = stored["x"], stored["y"]
    return load_images(x[:first], image_size=x.shape[1], labels=[str(label) for label in y[:first]])


def parsed(settings: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in settings]
    wrong = [name for name, sign, value in pairs if not (name and sign and value)]
    if wrong:
        raise ValueError(f"--set takes NAME=VALUE; got '{wrong[0]}'.")
    return {name: value for name, _, value in pairs}


class OutOfTime(Exception):
    """There is no time left for another epoch."""


class Clock:
    """The wall-clock minutes of all pieces of one run, kept in its folder, and of this piece."""

    def __init__(self, run: Run, began: float) -> None:
        self.file, self.began = run / "clock.json", began
        self.before = float(json.loads(self.file.read_text())["seconds"]) if self.file.is_file() else 0.0

    def minutes(self) -> float:
        return (self.before + time.monotonic() - self.began) / 60

    def save(self) -> None:
        write_whole(self.file, json.dumps({"seconds": 60 * self.minutes()}))


def write_whole(file: Path, text: str) -> None:
    """Writes a file that is whole or as before, whenever the process is killed."""
    temporary = file.with_name(f"{file.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


class Curve:
    """The file of points: one JSON line each, of several seeds."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def lines(self) -> list[dict[str, Any]]:
        """The points so far; a half line that a kill left at the end is dropped."""
        texts = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
        points = []
        for number, text in enumerate(texts, 1):
            try:
                points.append(json.loads(text))
            except json.JSONDecodeError:
                if number < len(texts):
                    raise ValueError(f"'{self.file}' is damaged in line {number}. Delete that line.") from None
        return points

    def cut(self, seed: int, epochs: int) -> None:
        """Drops the points of epochs that are done again."""
        kept = [line for line in self.lines() if line["seed"] != seed or line["epoch"] <= epochs]
        write_whole(self.file, "".join(json.dumps(line) + "\n" for line in kept))

    def has(self, seed: int, epoch: int) -> bool:
        return any((line["seed"], line["epoch"]) == (seed, epoch) for line in self.lines())

    def append(self, line: dict[str, Any]) -> None:
        with open(self.file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def point_of(
    record: dict[str, Any], seed: int, images: Images, clusters: Callable[[], np.ndarray], clock: Clock
) -> dict[str, Any]:
    """A point of the curve; no scores while the method has no clusters."""
    line = {
        "seed": seed, "epoch": record["epoch"], "epochs": record["epochs"], "images": len(images),
        "training_minutes": round(record["seconds"] / 60, 4), "loss": record["loss"], "accuracy": None,
        "scores": LABELS,
    }  # fmt: skip
    if record["confidence"] is not None:
        assigned = clusters()
        assert images.labels is not None  # open_data gives them
        line |= {name: score(images.labels, assigned)[name] for name in ("accuracy", "nmi_arithmetic", "ari")}
        line["effective_clusters"] = round(effective_clusters(assigned), 2)
    return line | {"wall_minutes": round(clock.minutes(), 4)}


def refuse_changed(run: Run, options: dict[str, Any]) -> None:
    """Raises ValueError where a run would go on with other options than it began with."""
    began = options_of(run, options)
    preset = get_preset("cc", "default")
    defaults = dataclasses.asdict(preset.config) | dataclasses.asdict(preset.recipe)
    names = {"backbone": "the backbone", "views": "the views"}
    for name in {**began, **options}:
        before, now = (record.get(name, defaults.get(name)) for record in (began, options))
        if plain_value(before) != plain_value(now):
            raise ValueError(
                f"'{run}' began with {names.get(name, name)} {before}, now it is {now}. Give the options that it began"
                " with, or choose another --out."
            )


def plain_value(value: Any) -> float | str:
    """A number however it was written, or a text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def options_of(run: Run, asked: dict[str, Any]) -> dict[str, Any]:
    """The options that a run began with; for a run without their file, those of `asked` that its config.json has."""
    file = options_file(run)
    if file.is_file():
        options: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return options
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    recorded = {
        **config["method_config"], **config["train"], "backbone": config["backbone"], "views": config["views"]["name"],
    }  # fmt: skip
    return {name: recorded.get(name, value) for name, value in asked.items()}


def options_file(run: Run) -> Path:
    """Where the options that a run began with are kept: beside its folder, which belongs to ilk."""
    return run.folder.with_name(f"{run.folder.name}-options.json")


def train_one(
    images: Images, run: Run, curve: Curve, *, seed: int, arguments: argparse.Namespace, began: float,
    out_of_time: Callable[[float], bool],
) -> bool:  # fmt: skip
    """Trains one seed until it is done (True) or there is no time for another epoch, or for the results (False)."""
    options = {
        "epochs": arguments.epochs, "backbone": arguments.backbone, "views": arguments.views,
        **RECIPE, **parsed(arguments.set),
    }  # fmt: skip
    ours = not run.exists or arguments.resume  # a run that is there is not touched without --resume
    if run.exists and arguments.resume:
        refuse_changed(run, options)
    elif not run.exists:
        write_whole(options_file(run), json.dumps(options))
    clock = Clock(run, began)
    started = longest = 0.0
    before = time.monotonic()

    def on_epoch(record: dict[str, Any], clusters: Callable[[], np.ndarray]) -> None:
        nonlocal started, longest, before
        if not started:
            curve.cut(seed, record["epoch"] - 1)
            started = time.monotonic()
        last = record["epoch"] == record["epochs"]
        if last or record["epoch"] % arguments.score_every == 0:
            curve.append(point_of(record, seed, images, clusters, clock))
        print(epoch_line(record), file=sys.stderr, flush=True)
        clock.save()
        now = time.monotonic()
        longest, before = max(longest, now - before), now
        if out_of_time(3 * longest if last else longest):  # after the last come assigning and a report
            raise OutOfTime

    settings = {name: value for name, value in options.items() if name not in ("epochs", "backbone", "views")}
    try:
        ilk.fit(
            images, CLUSTERS, method="cc", out=run.folder, resume=arguments.resume, backbone=arguments.backbone,
            views=arguments.views, seed=seed, epochs=arguments.epochs, settings=settings, device=arguments.device,
            precision=arguments.precision, on_epoch=on_epoch,
        )  # fmt: skip
    except OutOfTime:
        return False
    finally:
        if run.exists and ours:
            clock.save()
    last = run.log()[-1]
    if not curve.has(seed, last["epoch"]):  # a kill came between its checkpoint and its point
        curve.append(point_of(last, seed, images, lambda: clusters_of(run), clock))
    return True


def clusters_of(run: Run) -> np.ndarray:
    """The cluster of each image of a finished run, (n,)."""
    return np.asarray(read_table(run / "assignments.parquet")["cluster"].to_numpy())


def epoch_line(record: dict[str, Any]) -> str:
    """One epoch as a line of text."""
    terms = ", ".join(f"{name} {value:.3f}" for name, value in record["terms"].items())
    speed = f"{record['images_per_second']:,.0f} images/s"
    return f"epoch {record['epoch']}/{record['epochs']}, {record['seconds']:.0f} s, {speed}, {terms}"


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

    parsed(arguments.set)  # a mistake there is told before anything is read
    images = open_data(arguments.data, arguments.first)
    arguments.out.mkdir(parents=True, exist_ok=True)
    curve, at = Curve(arguments.out / "curve.jsonl"), began
    for seed in arguments.seeds:
        run = Run(arguments.out / f"seed-{seed}")
        if arguments.resume and run.finished:
            continue
        done = train_one(
            images, run, curve, seed=seed, arguments=arguments, began=at, out_of_time=out_of_time
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
