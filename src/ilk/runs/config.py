"""What the config.json of a run may hold: types and ranges, checked before anything is built from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FORMAT = 1
NEEDED = ("method", "preset", "n_clusters", "seed", "method_config", "backbone", "views", "train", "images")
MOST_CLUSTERS = 100_000
MOST_SIDE = 4096  # pixels
MOST_CHANNELS = 1024
MOST_IMAGES = 10**10
MOST_WIDTH = 10**6  # features
MOST_SETTING = 10**7  # any other whole number: widths, queues, steps
MOST_TEXT = 10_000  # characters of a name or path
MOST_PARTS = 1000  # heads side by side, views of an image: each is an object of its own
LONGEST = 2**40  # epochs, seeds and the like, which cost no memory

# what the first versions of the format did not write yet, with the value that means what they did
ADDED_LATER: dict[str, Any] = {
    "front_end": None, "init": None, "freeze_backbone": False, "extra": None, "known_labels": None, "labels": None,
    "encoder": None, "features": None, "notes": [], "command": [], "select": "last",
    "source": {"name": "unknown", "fingerprint": ""},  # images of no known source are never those of a run
}  # fmt: skip


class Wrong(ValueError):
    """A setting that is not as it should be, in a sentence."""


def refuse_foreign(found: Any, file: Path) -> None:
    """Raises ValueError, a sentence, for what is no table, or of a format that is not known here."""
    if not isinstance(found, dict):
        raise ValueError(f"'{file}' does not hold a run's settings.")
    if found.get("format") not in (None, FORMAT):
        raise ValueError(
            f"'{file.parent}' has format {str(found['format'])[:20]}; this version of ilk reads format {FORMAT}."
            " Update ilk, or make the run again."
        )


def summary(found: Any, file: Path) -> dict[str, Any]:
    """The settings of a run for showing them, which asks for no more than how many clusters there are."""
    refuse_foreign(found, file)
    k = found.get("n_clusters")
    if not isinstance(k, int) or not 1 <= k <= MOST_CLUSTERS:
        raise ValueError(f"'{file}' does not hold a run's settings: n_clusters is {shown(k)}.")
    return dict(found)


def checked(found: Any, file: Path) -> dict[str, Any]:
    """The settings of a run, those that were `ADDED_LATER` filled in. Raises ValueError, a sentence, for others."""
    refuse_foreign(found, file)
    missing = [name for name in ("format", *NEEDED) if name not in found]
    if missing:
        raise ValueError(f"'{file.parent}' is not a run folder of ilk: its config.json lacks {', '.join(missing)}.")
    config = {**ADDED_LATER, **found}
    if isinstance(config["source"], dict):
        config["source"] = {**ADDED_LATER["source"], **config["source"]}
    try:
        check_config(config)
    except Wrong as error:
        raise ValueError(f"'{file}' is damaged or was not written by ilk: {error}") from None
    return config


def check_config(given: dict[str, Any]) -> None:
    """Raises Wrong unless all settings that are known here are as they should be.

    Settings that are not known here are left alone; what builds something from them refuses them.
    """
    config = {**ADDED_LATER, **given}
    whole("n_clusters", config["n_clusters"], 2, MOST_CLUSTERS)
    whole("seed", config["seed"], 0, LONGEST)
    one_of("select", config["select"], "last", "min_loss", "oracle_acc")
    for name in ("method", "preset", "backbone"):
        text(name, config[name])
    check_images(table("images", config["images"]))
    check_train(table("train", config["train"]))
    check_views(table("views", config["views"]))
    check_settings(table("method_config", config["method_config"]))
    check_front_end(config["front_end"], config["images"]["channels"])
    check_encoder(config["encoder"], config["features"])
    check_circumstances(config)


def check_images(images: dict[str, Any]) -> None:
    whole("images.n", images.get("n"), 1, MOST_IMAGES)
    whole("images.channels", images.get("channels"), 1, MOST_CHANNELS)
    whole("images.size", images.get("size"), 1, MOST_SIDE)


def check_train(train: dict[str, Any]) -> None:
    for name, low, high in (
        ("epochs", 1, LONGEST), ("batch_size", 1, MOST_SETTING), ("warmup", 0, LONGEST), ("seed", 0, LONGEST),
    ):  # fmt: skip
        whole(f"train.{name}", train.get(name), low, high)
    for name in ("learning_rate", "weight_decay", "momentum"):
        number(f"train.{name}", train.get(name), 0, 1e300)
    one_of("train.optimizer", train.get("optimizer"), "adam", "adamw", "sgd")
    one_of("train.schedule", train.get("schedule"), "constant", "cosine")


def check_views(views: dict[str, Any]) -> None:
    text("views.name", views.get("name"))
    for side in ("a", "b"):
        for name, value in table(f"views.{side}", views.get(side)).items():
            for one in value if isinstance(value, list) and len(value) <= MOST_PARTS else [value]:
                plain(f"views.{side}.{name}", one)


def check_settings(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if isinstance(value, int) and not isinstance(value, bool):
            most = MOST_PARTS if name in ("cluster_heads", "repeats", "batch_parts") else MOST_SETTING
            whole(f"method_config.{name}", value, 0, most)
        else:
            plain(f"method_config.{name}", value)


def check_front_end(front: Any, channels: int) -> None:
    if front is None:
        return
    table("front_end", front)
    if not isinstance(front.get("sobel"), bool):
        raise Wrong(f"front_end.sobel must be true or false; it is {shown(front.get('sobel'))}.")
    for name in ("mean", "std"):
        values = front.get(name)
        if values is None:
            continue
        if not isinstance(values, list) or len(values) != channels:
            raise Wrong(f"front_end.{name} must be a list of {channels} numbers; it is {shown(values)}.")
        for value in values:
            number(f"front_end.{name}", value, 1e-9 if name == "std" else -1e6, 1e6)


def check_encoder(encoder: Any, features: Any) -> None:
    """The frozen encoder that heads were trained on, and which of its features."""
    if encoder is None and features is None:
        return
    found, seen = table("encoder", encoder), table("features", features)
    text("encoder.spec", found.get("spec"))
    text("encoder.fingerprint", found.get("fingerprint"))
    whole("encoder.feature_dim", found.get("feature_dim"), 1, MOST_WIDTH)
    whole("features.views", seen.get("views"), 0, MOST_PARTS)
    whole("features.neighbours", seen.get("neighbours"), 0, MOST_CLUSTERS)
    number("features.neighbour_share", seen.get("neighbour_share"), 0, 1)


def check_circumstances(config: dict[str, Any]) -> None:
    """What is there in some runs only."""
    if not isinstance(config["freeze_backbone"], bool):
        raise Wrong(f"freeze_backbone must be true or false; it is {shown(config['freeze_backbone'])}.")
    for section, wanted in (
        ("source", ("name", "fingerprint")), ("extra", ("name", "fingerprint")), ("init", ("path", "hash")),
        ("labels", ()), ("known_labels", ()),
    ):  # fmt: skip
        found = config.get(section)
        if found is None:
            continue
        table(section, found)
        for name in wanted:
            text(f"{section}.{name}", found.get(name))
        if section in ("labels", "known_labels"):
            texts(f"{section}.names", found.get("names"))
    known = config["known_labels"]
    if known is not None and len(known["names"]) > config["n_clusters"]:
        raise Wrong(f"known_labels has {len(known['names'])} names for {config['n_clusters']} clusters.")
    for name in ("notes", "command"):
        texts(name, config[name])


def whole(name: str, value: Any, low: int, high: int) -> None:
    ranged(name, value, low, high, "a whole number", isinstance(value, int))


def number(name: str, value: Any, low: float, high: float) -> None:
    ranged(name, value, low, high, "a number", isinstance(value, (int, float)))


def ranged(name: str, value: Any, low: float, high: float, what: str, fits: bool) -> None:
    if isinstance(value, bool) or not fits or not low <= value <= high:
        limits = f"from {low:,} to {high:,}" if isinstance(low, int) else f"from {low:g} to {high:g}"
        raise Wrong(f"{name} must be {what} {limits}; it is {shown(value)}.")


def text(name: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > MOST_TEXT or "\0" in value:
        raise Wrong(f"{name} must be text; it is {shown(value)}.")


def texts(name: str, value: Any) -> None:
    if not isinstance(value, list):
        raise Wrong(f"{name} must be a list; it is {shown(value)}.")
    for one in value:
        text(name, one)


def table(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Wrong(f"{name} must be a table of settings; it is {shown(value)}.")
    return value


def plain(name: str, value: Any) -> None:
    """A number, a word, true, false or null."""
    if isinstance(value, str):
        text(name, value)
    elif value is not None and not isinstance(value, bool):
        number(name, value, -1e9, 1e9)


def one_of(name: str, value: Any, *known: str) -> None:
    if value not in known:
        raise Wrong(f"{name} must be {' or '.join(known)}; it is {shown(value)}.")


def shown(value: Any) -> str:
    """The value in a few characters."""
    if value is None:
        return "missing"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**18:
        return "far beyond that"
    found = repr(value)
    return found if len(found) <= 60 else f"{found[:57]}..."
