"""The protocols one after the other on a finished run; results are kept in its `evaluation.json`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ilk.evaluation import protocols
from ilk.evaluation.evaluated_images import LABELS_NEEDED
from ilk.evaluation.evaluation_options import NEED_LABELS, PROTOCOLS, USE_SPLIT, EvaluationOptions
from ilk.evaluation.inputs import Inputs, OpenModel, open_inputs
from ilk.evaluation.provenance import labels_used
from ilk.runs.folder import Run
from ilk.system.devices import choose_device
from ilk.system.files import file_hash, read_json, write_json
from ilk.system.progress import Watch

FILE = "evaluation.json"
FORMAT = 2
FUNCTIONS: dict[str, Callable[[Inputs], dict[str, Any]]] = {
    "labels": protocols.labels,
    "knn": protocols.knn,
    "probe": protocols.probe,
    "retrieval": protocols.retrieval,
    "opinions": protocols.opinions,
    "label-free": protocols.label_free,
}


def evaluate_run(
    run: Run,
    options: EvaluationOptions,
    *,
    model: OpenModel | None = None,
    write: bool = True,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """The results of the protocols, one block each; see `docs/evaluation.md` for their fields.

    With `write`, each block is written to the run's `evaluation.json` as soon as it is done; blocks of other protocols
    stay, as long as the assignments are the same. `model`: opens the trained model of a run; without it, protocols
    that need one are left out. Raises ValueError or FileNotFoundError for what a person can correct.
    """
    watch = watch or Watch()
    choose_device(options.device)  # refused here: later, a wrong name would look like a reason to leave things out
    inputs = open_inputs(run, options, model, watch)
    chosen = chosen_protocols(run, inputs)
    fail_early(inputs, chosen)
    results = stored_results(run, inputs)
    for place, name in enumerate(chosen):
        start = time.monotonic()
        watch.say(f"evaluating: {name}")
        try:
            block = FUNCTIONS[name](inputs)
        except (ValueError, OSError) as error:
            if options.only:
                raise
            watch.warn(f"{name} is left out: {error}")
            block = {"left_out": str(error)}
        except KeyboardInterrupt:
            watch.warn(how_to_resume(run, chosen, place))
            raise
        results["protocols"][name] = {**block, "seed": options.seed, "seconds": round(time.monotonic() - start, 2)}
        results["protocols"] = {name: results["protocols"][name] for name in PROTOCOLS if name in results["protocols"]}
        if write:
            write_json(run / FILE, results)
    return {**results, "protocols": {name: results["protocols"][name] for name in chosen}}


def chosen_protocols(run: Run, inputs: Inputs) -> tuple[str, ...]:
    """The protocols to do, in order. Raises ValueError where one was asked for by name and labels are missing."""
    only, watch = inputs.options.only, inputs.watch
    chosen = tuple(name for name in PROTOCOLS if name in only) or PROTOCOLS
    if inputs.labelled:
        return chosen
    needed = [name for name in only if name in NEED_LABELS]
    if needed:
        raise ValueError(f"{', '.join(needed)} cannot be done: no labels are known for '{run}'. {LABELS_NEEDED}")
    watch.say(f"no labels are known: {', '.join(NEED_LABELS)} are left out. {LABELS_NEEDED}")
    return tuple(name for name in chosen if name not in NEED_LABELS)


def fail_early(inputs: Inputs, chosen: tuple[str, ...]) -> None:
    """Raises ValueError for a wrong other run or split now, rather than after hours of work."""
    if "label-free" in chosen:
        _ = inputs.agreements
    if inputs.held_out and set(chosen) & set(USE_SPLIT):
        _ = inputs.division
    if {"knn", "probe"} & set(inputs.options.only):
        _ = inputs.split


def how_to_resume(run: Run, chosen: tuple[str, ...], place: int) -> str:
    """What to say after Ctrl-C during the protocol number `place`."""
    done = ", ".join(chosen[:place])
    kept = f"{done} {'is' if place == 1 else 'are'} kept in {run / FILE}. " if place else ""
    return f"stopped. {kept}For the others, run the same command with --only {','.join(chosen[place:])}"


def stored_results(run: Run, inputs: Inputs) -> dict[str, Any]:
    """The results of earlier evaluations of the same assignments, or an empty record."""
    empty: dict[str, Any] = {
        "format": FORMAT, "assignments": file_hash(run / "assignments.parquet"), "images": len(inputs.main),
        "n_clusters": run.config.n_clusters, "selection": labels_used(run), "protocols": {},
    }  # fmt: skip
    file = run / FILE
    if not file.exists():
        return empty
    if not file.is_file():
        raise ValueError(f"'{file}' is a folder, where the results are to be written. Remove it.")
    try:
        stored = read_json(file)
        same = all(stored[name] == empty[name] for name in ("format", "assignments"))
        return {**empty, "protocols": dict(stored["protocols"])} if same else empty
    except (ValueError, TypeError, KeyError, AttributeError):  # written by another program, or damaged
        inputs.watch.warn(f"'{file}' is damaged or was not written by ilk; it is written anew")
        return empty
