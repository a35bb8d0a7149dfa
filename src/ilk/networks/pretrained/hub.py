"""The Hugging Face hub and its cache on this machine: only safetensors, bounded waiting, one sentence an error."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ilk.networks.pretrained.encoder import Progress, Say

INDEX = "model.safetensors.index.json"
PREPARATIONS = ("preprocessor_config.json", "processor_config.json")  # the second: from transformers 5 on, nested
SMALL = ("config.json", *PREPARATIONS, "README.md")
REACH = 3.0  # seconds
ANSWER = 10.0  # seconds for one answer of the hub
STALL = 120.0  # seconds without a byte; the hub's own client writes in large pieces
CONVERTER = "SFconvertbot"  # the hub's own, which offers safetensors as a pull request where a model has pickles only


def offline_because(offline: bool = False) -> str | None:
    """Why the network must not be used, or None if it may."""
    if offline:
        return "offline was asked for"
    for name in ("ILK_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            return f"{name} is set"
    return None


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def cache_folder() -> Path:
    """Where the hub's downloads lie, by the environment variables that huggingface_hub documents."""
    for name, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser() / below
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"


def cached(model_id: str, revision: str | None = None) -> Path | None:
    """The folder of a complete copy in the cache: that of `revision`, or of main, or else the latest."""
    place = cache_folder() / f"models--{model_id.replace('/', '--')}"
    found = list(snapshots(place, revision))
    return next((folder for folder in found if complete(folder)), None)


def snapshots(place: Path, revision: str | None) -> Iterator[Path]:
    for name in [revision] if revision else ["main"]:
        reference = place / "refs" / name
        if reference.is_file():
            yield place / "snapshots" / reference.read_text(encoding="utf-8").strip()
    if revision:
        yield place / "snapshots" / revision
    elif (place / "snapshots").is_dir():
        yield from sorted((place / "snapshots").iterdir(), key=lambda folder: -folder.stat().st_mtime)


def complete(folder: Path) -> bool:
    """Whether all files that an encoder needs are there."""
    try:
        needed = [folder / "config.json", *weight_files(folder)]
    except ValueError:
        return False
    return all(file.is_file() for file in needed) and any((folder / name).is_file() for name in PREPARATIONS)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder. Raises ValueError with what is wrong, as the rest of a sentence."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if (folder / INDEX).is_file():
        return [folder / name for name in shard_names((folder / INDEX).read_text(encoding="utf-8"))]
    if list(folder.glob("*.bin")) or list(folder.glob("*.pt")) or list(folder.glob("*.pth")):
        raise ValueError(
            "holds its weights as pickles only, which can run code when they are opened; ilk reads model.safetensors."
            " Look for a safetensors version of the model, or save it as one with save_pretrained"
        )
    raise ValueError("has no model.safetensors")


def shard_names(index: str) -> list[str]:
    try:
        names = sorted(set(json.loads(index)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"has a damaged {INDEX}") from None
    if not names or not all(isinstance(n, str) and n.endswith(".safetensors") and Path(n).name == n for n in names):
        raise ValueError(f"has a damaged {INDEX}")
    return names


def reachable(model_id: str, seconds: float = REACH) -> bool:
    """Whether the hub tells of the model within so many seconds in all; a name server that hangs counts too."""

    def ask() -> bool:
        with urllib.request.urlopen(f"{endpoint()}/api/models/{model_id}", timeout=seconds) as answer:
            return bool(answer.status < 400)

    try:
        return bool(bounded(ask, seconds))
    except Exception:  # whatever stands between us and the hub
        return False


def bounded(work: Callable[[], Any], seconds: float, alive: Callable[[], Any] | None = None) -> Any:
    """The result of `work`, which may take `seconds`, or so long without a change of what `alive` returns.

    Raises TimeoutError, or what `work` raises. A thread that hangs is left behind; it cannot be stopped.
    """
    result: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # handed to the thread that waits
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    last, state = time.monotonic(), None
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
    """Downloads what an encoder needs into the cache and returns its folder. Raises ValueError with a sentence."""
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError:
        raise missing_package("huggingface_hub") from None
    api = HfApi(endpoint=endpoint())
    try:
        info, revision = model_info(api, model_id, revision)
        sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or []}
        names = [name for name in SMALL if name in sizes]
        refuse_without(names, sizes, model_id)

        def get(name: str) -> Path:
            where = {"revision": info.sha, "cache_dir": cache_folder(), "endpoint": endpoint()}
            return Path(hf_hub_download(model_id, name, etag_timeout=ANSWER, **where))

        with quiet_hub():
            folder = bounded(lambda: [get(name) for name in names], 3 * ANSWER)[0].parent
            weights = ["model.safetensors"]
            if "model.safetensors" not in sizes:
                weights = shard_names(bounded(lambda: get(INDEX), 2 * ANSWER).read_text(encoding="utf-8"))
            total = sum(sizes.get(name, 0) for name in weights)
            if say is not None:
                licence = (
                    licence or getattr(info.card_data, "license", None) or "of unknown licence, see the model card"
                )
                say(f"downloading {model_id}: {total / 1e6:,.0f} MB, weights: {licence}, kept in {cache_folder()}")
            blobs = folder.parent.parent / "blobs"
            before = held(blobs)

            def watch() -> int:
                done = min(held(blobs) - before, total)
                if progress is not None:
                    progress(done // 1_000_000, max(1, total // 1_000_000), "downloading (MB)")
                return done

            bounded(lambda: [get(name) for name in weights], STALL, watch)
        remember(folder, revision or "main", info.sha)
    except Exception as error:
        raise explained(error, model_id, revision) from None
    return folder


def model_info(api: Any, model_id: str, revision: str | None) -> tuple[Any, str | None]:
    """What the hub knows of the model; where main has pickles only, of the hub's own safetensors version."""
    info = bounded(lambda: api.model_info(model_id, revision=revision, files_metadata=True, timeout=ANSWER), 2 * ANSWER)
    names = {file.rfilename for file in info.siblings or []}
    if revision or names & {"model.safetensors", INDEX}:
        return info, revision
    offers = bounded(
        lambda: [
            one.num
            for one in api.get_repo_discussions(model_id, author=CONVERTER, discussion_type="pull_request")
            if "safetensors" in one.title and one.status in ("open", "draft", "merged")
        ],
        2 * ANSWER,
    )
    if not offers:
        return info, revision
    revision = f"refs/pr/{min(offers)}"
    return bounded(
        lambda: api.model_info(model_id, revision=revision, files_metadata=True, timeout=ANSWER), 2 * ANSWER
    ), revision


def refuse_without(names: list[str], sizes: dict[str, int], model_id: str) -> None:
    """Raises ValueError before anything large is downloaded that could not be used."""
    if "config.json" not in names:
        raise ValueError(f"'{model_id}' has no config.json, so it is no model that transformers can read.")
    if not any(name in names for name in PREPARATIONS):
        raise ValueError(f"'{model_id}' has no preprocessor_config.json, so it is no model of images.")
    if not sizes.keys() & {"model.safetensors", INDEX}:
        raise ValueError(
            f"'{model_id}' offers its weights as pickles only, which can run code when they are opened; ilk reads"
            " safetensors. Choose another model, or convert it and give the folder: hf:FOLDER."
        )


def remember(folder: Path, reference: str, commit: str) -> None:
    """Notes which commit a branch meant, as huggingface_hub does when it is asked for the branch."""
    file = folder.parent.parent / "refs" / reference
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(commit, encoding="utf-8")


def held(folder: Path) -> int:
    """The bytes of a folder's files so far."""
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:  # not there yet, or a file was renamed under our eyes
        return 0


@contextmanager
def quiet_hub() -> Iterator[None]:
    """No progress bars of huggingface_hub; ilk has its own."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


def missing_package(name: str) -> ValueError:
    return ValueError(f"Pretrained encoders need the package {name}. Install it with: pip install 'ilk[hf]'")


def explained(error: Exception, model_id: str, revision: str | None) -> ValueError:
    """An error of the hub as one sentence that says what to do."""
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
        text = f"'{model_id}' is neither a folder nor a model's name on the Hugging Face hub (owner/name)."
    elif isinstance(error, OSError) and error.errno == 28:
        text = f"The disk is full: '{model_id}' cannot be kept in {cache_folder()}. Free space, or set HF_HUB_CACHE."
    elif status is not None:
        text = f"{endpoint()} answered with an error ({status}) when asked for '{model_id}'. Try again later."
    elif type(error) is ValueError:
        return error
    else:
        text = (
            f"'{model_id}' could not be downloaded from {endpoint()} ({short(error)}). Check the network, or download"
            " the model on another machine and give its folder: hf:FOLDER"
        )
    return ValueError(text)


def short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
