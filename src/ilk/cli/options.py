"""The options of commands: made from the declared ones, and those that only commands have. No torch here."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from ilk.pipeline.options import EXPERT, FIRST, PANELS, TRAINING, Option, options_of
from ilk.pipeline.request import Request

REQUEST = options_of(Request)
OTHER = "Other options"
Command = TypeVar("Command", bound=Callable[..., None])


class Mode(str, enum.Enum):
    copy = "copy"
    symlink = "symlink"
    hardlink = "hardlink"


class Panels(TyperCommand):
    """A command whose help shows its options in panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, then the options by panel. (Typer's own panels need rich, which loads slowly.)"""
        panels: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Arguments", *PANELS, OTHER)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                argument = parameter.param_type_name == "argument"
                title = "Arguments" if argument else getattr(parameter, "rich_help_panel", None) or OTHER
                panels[title].append(record)
        for title, records in panels.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def as_typer(option: Option, **changes: Any) -> Any:
    """A declared option for Typer; `changes` replace what it says, for a command with another use of it."""
    option = replace(option, **changes)
    names = [option.flag] if option.short is None else [option.flag, option.short]
    shown: Any = option.unset or not (option.default is None or option.default is False or option.default == {})
    return typer.Option(
        *names,
        help=f"{option.help} May be repeated." if option.kind is list else option.help,
        metavar=option.metavar,
        show_default=shown,
        rich_help_panel=option.panel,
    )


def annotated(option: Option) -> Any:
    """The annotation of a parameter that is this option."""
    kind: Any = list[str] if option.kind is list else option.kind
    if option.kind is not bool and option.default in (None, {}):
        kind = kind | None
    return Annotated[kind, as_typer(option)]


def with_options(declared: Iterable[Option]) -> Callable[[Command], Command]:
    """A decorator of commands, which adds declared options to those in the signature; they arrive as `**options`."""

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        added = [
            inspect.Parameter(
                option.name, inspect.Parameter.KEYWORD_ONLY, annotation=annotated(option),
                default=None if option.kind is list else option.default,
            )
            for option in declared
        ]  # fmt: skip
        parameters = added + [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # for Typer
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def settings_of(texts: list[str] | None) -> dict[str, str]:
    """The NAME=VALUE pairs of `--set` as a dict."""
    pairs = {}
    for text in texts or []:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise ValueError(f"--set takes NAME=VALUE; got '{text}'.")
        pairs[name.strip().replace("-", "_")] = value.strip()
    return pairs


def split_words(text: str) -> list[str]:
    """The words of a list with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


SOURCE = "Where the images are: a folder, an image, or a .zip, .tar, .parquet, .npz or .npy file."
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder that ilk fit made.")]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE, show_default=False)]
MaybeSource = Annotated[str | None, typer.Argument(metavar="SOURCE", help=SOURCE, show_default=False)]
Embeddings = Annotated[
    Path | None,
    as_typer(
        REQUEST["embeddings"], panel=None,
        help="Features of the images, for a run that was trained on features computed elsewhere: a .npy file, or a"
        " .parquet file with a column of lists.",
    ),
]  # fmt: skip
OwnMethod = Annotated[
    str | None,
    typer.Option(
        "--method", metavar="FILE.py:CLASS", show_default=False,
        help="The method of your own that the run was trained with; its code is run.",
    ),
]  # fmt: skip
Device = Annotated[str, as_typer(REQUEST["device"], panel=None)]
Precision = Annotated[str, as_typer(REQUEST["precision"], panel=None)]
Seed = Annotated[int, as_typer(REQUEST["seed"], panel=None)]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Where decoded images are kept (default: $ILK_CACHE or the user's cache folder).",
        show_default=False,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include", metavar="PATTERN", show_default=False,
        help="Take only files of SOURCE whose path in it, or a folder of that path, matches, such as 'cats/*' or"
        " '*.jpg'. May be repeated.",
    ),
]  # fmt: skip
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="PATTERN", show_default=False,
        help="Leave out files of SOURCE whose path in it, or a folder of that path, matches. May be repeated.",
    ),
]  # fmt: skip
NoReport = Annotated[bool, typer.Option("--no-report", help="Do not write report.html.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and warnings.")]
SourceLabels = Annotated[
    str,
    typer.Option(
        metavar="LABELS",
        help="Labels to score the clusters with: auto (labels inside an .npz file or table), none, folders (the names"
        " of sub-folders), or a CSV or Parquet FILE with columns id, label.",
        rich_help_panel=FIRST,
    ),
]
__all__ = [
    "EXPERT", "FIRST", "OTHER", "REQUEST", "TRAINING", "CacheDir", "Device", "Embeddings", "Exclude", "Include",
    "MaybeSource", "Mode", "NoReport", "Panels", "Precision", "Quiet", "RunFolder", "Seed", "Source", "SourceLabels",
    "as_typer", "settings_of", "split_words", "with_options",
]  # fmt: skip
