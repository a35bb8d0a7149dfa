"""Models of the Hugging Face hub, downloaded into its cache on this machine.

Only safetensors files are used, every wait has a limit, and each error is one sentence.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ilk.networks.pretrained.cache import (
    INDEX,
    PREPARATIONS,
    cache_folder,
    checked_commit,
    checked_revision,
    endpoint,
    model_folder,
    shard_names,
)
from ilk.networks.pretrained.encoder import Progress, Say
from ilk.system.text import in_short

T = TypeVar("T")
SMALL = ("config.json", *PREPARATIONS, "README.md")
ANSWER = 10.0  # seconds for one answer of the hub
STALL = 120.0  # seconds without a new byte on disk; huggingface_hub writes in large pieces
CONVERTER = "SFconvertbot"  # the hub's account that offers safetensors as a pull request to models that have none


def offline_because(offline: bool = False) -> str | None:
    """Why the network must not be used, or None if it may."""
    if offline:
        return "offline was asked for"
    for name in ("ILK_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            return f"{name} is set"
    return None


def bounded(work: Callable[[], T], seconds: float, alive: Callable[[], object] | None = None) -> T:
    """The result of `work`, if it takes at most `seconds`; with `alive`, at most that long without a change of it.

    Raises TimeoutError, or what `work` raises. A thread that hangs cannot be stopped and is left behind.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # raised again in the thread that waits
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    last, state = time.monotonic(), object()
    while thread.is_alive():
        thread.join(min(0.2, seconds))
        if alive is not None and (now := alive()) != state:
            last, state = time.monotonic(), now
        if thread.is_alive() and time.monotonic() - last > seconds:
            raise TimeoutError(f"no answer for {seconds:g} seconds")
    if failure:
        raise failure[0]
    return result[0]


def fetch(
    model_id: str, revision: str | None, *, say: Say | None = None, progress: Progress | None = None,
    licence: str | None = None,
) -> Path:  # fmt: skip
    """Downloads what an encoder needs into the cache and returns its folder. Raises ValueError with a sentence.

    First the small files, then the weights; what an interrupted download left is used again.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise missing_package("huggingface_hub") from None
    try:
        info, revision = model_info(HfApi(endpoint=endpoint()), model_id, revision)
        commit = checked_commit(info.sha)
        sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or []}
        refuse_without(sizes, model_id)
        whole = "model.safetensors" in sizes
        small = [name for name in (*SMALL, *([] if whole else [INDEX])) if name in sizes]
        folder = bounded(lambda: download(model_id, commit, small), 3 * ANSWER)
        weights = ["model.safetensors"] if whole else shard_names((folder / INDEX).read_text(encoding="utf-8"))
        total = sum(sizes.get(name, 0) for name in weights)
        if say is not None:
            licence = licence or getattr(info.card_data, "license", None) or "of unknown licence, see the model card"
            say(f"downloading {model_id}: {total / 1e6:,.0f} MB, weights: {licence}, kept in {cache_folder()}")
        blobs = model_folder(model_id) / "blobs"
        before = size_of(blobs)

        def bytes_so_far() -> int:
            done = min(size_of(blobs) - before, total)
            if progress is not None:
                progress(done // 1_000_000, max(1, total // 1_000_000), "downloading (MB)")
            return done

        stop = threading.Event()
        try:
            bounded(lambda: download(model_id, commit, weights, stop), STALL, bytes_so_far)
        finally:
            stop.set()
        remember(model_id, revision or "main", commit)
    except Exception as error:
        raise explained(error, model_id, revision) from None
    return folder


def download(model_id: str, commit: str, names: list[str], stop: threading.Event | None = None) -> Path:
    """The folder of the cache with those files of a commit, downloaded where they are missing.

    `stop`: ends the download when it is set. Its threads would otherwise keep an interrupted program from ending.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import tqdm

    class Stoppable(tqdm):  # type: ignore[misc, unused-ignore]  # a progress bar is what huggingface_hub calls for each piece
        def update(self, n: float | None = 1) -> bool | None:
            if stop is not None and stop.is_set():
                raise RuntimeError("the download was stopped")
            shown: bool | None = super().update(n)
            return shown

    with quiet_hub():
        answer = snapshot_download(
            model_id, revision=commit, allow_patterns=names, cache_dir=cache_folder(), endpoint=endpoint(),
            etag_timeout=ANSWER, tqdm_class=Stoppable,
        )  # fmt: skip
    folder = Path(answer)
    if folder.resolve() != (model_folder(model_id) / "snapshots" / commit).resolve():
        raise ValueError(f"'{model_id}' was kept in '{folder}', outside of the cache {cache_folder()}.")
    return folder


def model_info(api: Any, model_id: str, revision: str | None) -> tuple[Any, str | None]:
    """(the hub's description of the model, the revision to use).

    Where main holds its weights as pickles only, that is the pull request in which the hub offers safetensors.
    """

    def ask(revision: str | None) -> Any:
        return bounded(
            lambda: api.model_info(model_id, revision=revision, files_metadata=True, timeout=ANSWER), 2 * ANSWER
        )

    if revision is not None:
        checked_revision(revision)
    info = ask(revision)
    names = {file.rfilename for file in info.siblings or []}
    if revision or names & {"model.safetensors", INDEX}:
        return info, revision
    offers = bounded(
        lambda: [
            offer.num
            for offer in api.get_repo_discussions(model_id, author=CONVERTER, discussion_type="pull_request")
            if "safetensors" in offer.title and offer.status in ("open", "draft", "merged")
        ],
        2 * ANSWER,
    )
    numbers = [number for number in offers if type(number) is int and number > 0]  # it becomes part of a path
    if not numbers:
        return info, revision
    revision = f"refs/pr/{min(numbers)}"
    return ask(revision), revision


def refuse_without(sizes: dict[str, int], model_id: str) -> None:
    """Raises ValueError, before anything is downloaded, for a model that lacks a file that an encoder needs."""
    if "config.json" not in sizes:
        raise ValueError(f"'{model_id}' has no config.json, so it is no model that transformers can read.")
    if not any(name in sizes for name in PREPARATIONS):
        raise ValueError(f"'{model_id}' has no preprocessor_config.json, so it is no model of images.")
    if not sizes.keys() & {"model.safetensors", INDEX}:
        raise ValueError(
            f"'{model_id}' offers its weights as pickles only, which can run code when they are opened; ilk reads"
            " safetensors. Choose another model, or convert it and give the folder: hf:FOLDER."
        )


def remember(model_id: str, reference: str, commit: str) -> None:
    """Writes down which commit a branch or tag means, as huggingface_hub does when it is asked for it by name."""
    if reference == commit:
        return
    file = model_folder(model_id) / "refs" / checked_revision(reference)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(commit, encoding="utf-8")


def size_of(folder: Path) -> int:
    """The bytes of the files in a folder; 0 while it does not exist."""
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:  # it does not exist yet, or a file was renamed meanwhile
        return 0


@contextmanager
def quiet_hub() -> Iterator[None]:
    """A block without progress bars of huggingface_hub; ilk has its own."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


def missing_package(name: str) -> ValueError:
    """The error to raise where a package of the extra `hf` is not installed."""
    return ValueError(f"Pretrained encoders need the package {name}. Install it with: pip install 'ilk[hf]'")


def explained(error: Exception, model_id: str, revision: str | None) -> ValueError:
    """The ValueError to raise for an error of the hub: one sentence that says what to do."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    page = f"{endpoint()}/{model_id}"
    if "GatedRepoError" in kinds:
        text = (
            f"'{model_id}' is gated: its owners want their terms accepted first. Do that at {page}, then log in with:"
            " hf auth login"
        )
    elif "RevisionNotFoundError" in kinds:
        text = f"'{model_id}' has no revision '{revision}'. See {page}."
    elif "RepositoryNotFoundError" in kinds or status in (401, 404):
        text = (
            f"There is no model '{model_id}' on {endpoint()}, or it is private. Check the name; for a private one log"
            " in with: hf auth login"
        )
    elif "HFValidationError" in kinds:
        text = f"'{model_id}' is neither a folder nor the name of a model on the Hugging Face hub (owner/name)."
    elif isinstance(error, OSError) and error.errno == 28:
        text = f"The disk is full: '{model_id}' cannot be kept in {cache_folder()}. Free space, or set HF_HUB_CACHE."
    elif status is not None:
        text = f"{endpoint()} answered with an error ({status}) when asked for '{model_id}'. Try again later."
    elif type(error) is ValueError:
        return error
    else:
        text = (
            f"'{model_id}' could not be downloaded from {endpoint()} ({in_short(error)}). Check the network, or"
            " download the model on another machine and give its folder: hf:FOLDER"
        )
    return ValueError(text)
