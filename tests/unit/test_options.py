"""Options are declared once: the command line, Python and `Request` have the same ones, and refuse the same values."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import typer
from torch import nn

import ilk
from ilk import Clusterer, ViewRecipe
from ilk.cli import app
from ilk.pipeline.options import PANELS, options_of
from ilk.pipeline.request import Request
from ilk.system.wording import flag, python_words

OPTIONS = options_of(Request)
BAD: dict[str, tuple[Any, ...]] = {  # values that are wrong in Python; those that are text, on the command line too
    "n_clusters": ("1", "many", "5-", "60-5", "1-5", "-3", 1, 0, 2.5, True, None),
    "method": ("ccc", "", None, 3),
    "preset": ("papers", "", None),
    "epochs": ("0", "-3", "2.5", "many", 0, -3, 2.5, True),
    "minutes": ("0", "-1", "nan", "inf", "many", 0, float("nan"), True),
    "image_size": ("0", "-8", "1.5", "4097", "big", 0, 1.5),
    "backbone": ("smal", "resnet19", "facebook/dinov2-base", "", 3),
    "views": ("fotos", "photo+fotos", "", 3, (ViewRecipe(),), (ViewRecipe(), "photo")),
    "seed": ("-1", "2147483648", "1.5", "x", -1, 1.5, True, None),
    "device": ("gpu", "cuda:x", "", None),
    "precision": ("fp16", "half", "", None),
    "settings": ("batchsize=3", "warmup=soon", "learning_rate=-1", "nonsense", 3, {"batchsize": 3}),
    "init": (3,),
    "freeze_backbone": (1, "yes", None),
    "known_labels": (),  # looked at beside the images
    "balance": ("even", "", 3),
    "train": ("head", "", 3),
    "feature_views": ("-1", "x", "1.5", -1, 1.5),
    "neighbours": ("-1", "x", "1.5", -1, 1.5, None),
    "offline": (1, "yes", None),
    "embeddings": (),  # looked at beside the images
    "select": ("best", "oracle_acc", "", None),
}
ONLY_OF_FIT = {"known_labels"}  # a parameter of `Clusterer.fit`, where it belongs beside the images
NOT_IN_PYTHON = {"embeddings", "select"}  # of the command line alone
RENAMED = {"seed": "random_state"}  # scikit-learn's name
IN_PYTHON = {name: RENAMED.get(name, name) for name in OPTIONS if name not in ONLY_OF_FIT | NOT_IN_PYTHON}
OF_CLUSTERER_ALONE = {"cache_dir", "verbose"}


def parameters(command: str) -> dict[str, click.Parameter]:
    """The parameters of a command by name."""
    group: Any = typer.main.get_command(app)
    return {parameter.name: parameter for parameter in group.commands[command].params}


def test_every_option_is_in_the_table_of_bad_values() -> None:
    assert BAD.keys() == OPTIONS.keys()


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_has_the_same_default_and_help_on_the_command_line(name: str) -> None:
    found: Any = parameters("fit")[name]
    assert flag(name) in found.opts
    assert found.help.startswith(OPTIONS[name].help)
    assert found.default == OPTIONS[name].default or (name == "settings" and not found.default)
    assert found.rich_help_panel in PANELS


@pytest.mark.parametrize("name", IN_PYTHON)
def test_an_option_has_the_same_default_in_python(name: str) -> None:
    default = inspect.signature(Clusterer).parameters[IN_PYTHON[name]].default
    assert default == OPTIONS[name].default or (name == "settings" and default is None)


@pytest.mark.parametrize("name", IN_PYTHON)
def test_the_docstring_has_the_default_and_the_help_of_an_option(name: str) -> None:
    documentation = " ".join((Clusterer.__doc__ or "").split())
    default = inspect.signature(Clusterer).parameters[IN_PYTHON[name]].default
    written = f'"{default}"' if isinstance(default, str) else str(default)
    entry = re.search(rf"(?:^| ){IN_PYTHON[name]} : [^:]*?, default=(\S+) (.*?)(?: \w+ : |$)", documentation)
    assert entry is not None and entry[1] == written
    assert entry[2].startswith(python_words(OPTIONS[name].help))
    assert OPTIONS[name].unset is None or f"None: {OPTIONS[name].unset}." in entry[2]


def test_python_has_no_other_options() -> None:
    assert set(inspect.signature(Clusterer).parameters) == set(IN_PYTHON.values()) | OF_CLUSTERER_ALONE
    assert set(inspect.signature(Clusterer.fit).parameters) >= ONLY_OF_FIT


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"image_size": 0}, "^`image_size` must be at least 1; got 0"),
        ({"random_state": -1}, "^`random_state` must be at least 0; got -1"),
        ({"settings": {"batchsize": 3}}, "no setting 'batchsize'. Did you mean 'batch_size'"),
        ({"epochs": 2, "minutes": 1}, "^Give `epochs` or `minutes`, not both"),
        ({"freeze_backbone": True}, "^`freeze_backbone` would keep .* with `init` RUN"),
    ],
)
def test_python_errors_name_pythons_arguments(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        Clusterer(3, **given).fit("nowhere")
    assert "--" not in str(caught.value)
    if "random_state" not in given:
        with pytest.raises(ValueError, match=sentence):
            ilk.fit("nowhere", 3, **given)


def one_sentence(text: str) -> bool:
    assert text and "\n" not in text and "Traceback" not in text and "validation error" not in text, text
    assert len(text) < 900, text
    return True


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_in_python_by_one_sentence(name: str, value: Any) -> None:
    with pytest.raises(ValueError) as caught:
        Request(**{name: value})
    assert one_sentence(str(caught.value))
    assert shown_in(value, str(caught.value)), caught.value


def shown_in(value: Any, text: str) -> bool:
    """Whether a sentence shows the refused value, or at least the type of it."""
    return any(part in text for part in (str(value), repr(value)[:40], type(value).__name__, "setting"))


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values if isinstance(value, str)]
)
def test_a_bad_value_is_refused_on_the_command_line_by_one_sentence(
    name: str, value: str, call: Any, tmp_path: Path
) -> None:
    if OPTIONS[name].kind is bool:
        pytest.skip("a flag takes no value")
    outcome = call("fit", "photos", f"{flag(name)}={value}")
    assert outcome.code == 2 and outcome.out == "", outcome
    assert "Traceback" not in outcome.err and list(tmp_path.iterdir()) == []
    assert one_sentence(outcome.err.strip()) if outcome.err.startswith("Error: ") else "Invalid value" in outcome.err


def test_values_of_numpy_are_plain_numbers() -> None:
    request = Request(n_clusters=np.int64(3), epochs=np.int32(2), seed=np.uint8(4), freeze_backbone=np.False_)
    assert [type(value) for value in (request.n_clusters, request.epochs, request.seed)] == [int, int, int]
    assert request.freeze_backbone is False


def test_a_request_is_frozen_and_a_changed_copy_is_checked() -> None:
    request = Request(n_clusters=3, backbone=(module := nn.Identity()))
    assert replace(request, seed=5).seed == 5 and replace(request, seed=5).backbone is module
    with pytest.raises(ValueError, match="--seed.*at least 0.*-5"):
        replace(request, seed=-5)
    with pytest.raises(AttributeError):
        request.seed = 3  # type: ignore[misc]


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="--epoch\\b.*Did you mean '--epochs'"):
        Request(epoch=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"epochs": 2, "minutes": 1}, "--epochs.*--minutes"),
        ({"n_clusters": "auto", "known_labels": "x.csv"}, "[Kk]nown labels.*number of clusters"),
        ({"freeze_backbone": True}, "--init"),
        ({"embeddings": "x.npy", "backbone": "small"}, "--backbone"),
        ({"embeddings": "x.npy", "views": "photo", "train": "all"}, "--train all.*--views"),
    ],
)
def test_options_that_contradict_each_other_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Request(**given)


def test_help_shows_panels_in_the_order_of_need(call: Any) -> None:
    text = call("fit", "--help").out
    places = [text.index(f"{title}:") for title in ("Arguments", *PANELS, "Other options")]
    assert places == sorted(places)
    assert text.index("--clusters") < places[2] < text.index("--views") < places[3] < text.index("--set NAME=VALUE")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--labels", "labels.csv"], "'labels.csv', and there is no such file"),
        (["--labels", "folder"], "Did you mean 'folders'"),
        (["--known-labels", "few.csv", "--method", "crlc"], "no file of known labels 'few.csv'"),
        (["--embeddings", "features.npy"], "no file of embeddings 'features.npy'"),
        (["--init", "before", "--image-size", "8"], "no 'before' to start from"),
        (["--extra", "more", "--method", "scl"], "scl has no use for extra images"),
        (["--extra", "more"], "'more' does not exist"),
        (["--out", "."], "'.' is not empty"),
        (["--train", "heads", "--backbone", "small"], "'small' starts from chance"),
    ],
)
def test_what_can_be_refused_is_refused_before_an_image_is_decoded(
    words: list[str], sentence: str, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "photos" / name).write_bytes(b"not decoded")

    def decode(*_: Any, **__: Any) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("ilk.images.load.decode_source", decode)
    outcome = call("fit", "photos", "-k", 2, "--cache-dir", "cache", *words)
    assert outcome.code == 2 and sentence in outcome.err, outcome
    assert "Traceback" not in outcome.err and outcome.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
