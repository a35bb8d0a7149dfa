"""The application that commands register with, and the entry point: errors become sentences here."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ilk.system.ranks import rank, world

app = typer.Typer(
    name="ilk",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # boxes take longer to import than all the rest of `ilk --help`
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find images of the same kind in an unlabelled collection.",
    epilog="Start with:  ilk demo    then:  ilk fit my-photos/ --clusters 10",
)


def show_version(value: bool) -> None:
    if value:
        from ilk import __version__

        print(f"ilk {__version__}")
        raise typer.Exit()


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find images of the same kind in an unlabelled collection."""


def main() -> None:
    """The entry point: a mistake becomes one sentence and exit code 2, never a traceback."""
    if world() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # warnings for programmers, once for each process
    before, show = signal.signal(signal.SIGTERM, interrupted), warnings.showwarning
    warnings.showwarning = show_warning
    try:
        app()
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("ILK_DEBUG") or not readable(error):
            raise
        if rank() > 0 and isinstance(error, (ValueError, OSError)):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(OTHERS)  # the first process says it too, and torchrun then ends this one; once is enough
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, (ValueError, OSError)) else 1)
    finally:
        signal.signal(signal.SIGTERM, before)
        warnings.showwarning = show


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Prints a warning of ilk as a sentence, once for all processes, and one of a library as Python does."""
    own = Path(__file__).parents[1] in Path(filename).parents
    if not own:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr, end="")
    elif rank() == 0:
        print(f"Warning: {message}", file=sys.stderr)


OTHERS = 20.0  # seconds


def interrupted(*_: object) -> NoReturn:
    """What a batch system or torchrun asks of us is what Ctrl-C asks."""
    raise KeyboardInterrupt


def readable(error: Exception) -> bool:
    """Whether the error is one that ilk raised for a person: sentences, not an accident inside torch."""
    if isinstance(error, (ValueError, OSError)):
        return True
    from ilk.system.devices import OutOfMemory
    from ilk.system.processes import PeerLost
    from ilk.training.loop import TrainingDiverged

    return isinstance(error, (TrainingDiverged, PeerLost, OutOfMemory))
