"""New images sorted into the clusters of a finished run."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ilk.images import Images
from ilk.images.embeddings import fingerprint
from ilk.networks.features import Features
from ilk.pipeline.build import load_method
from ilk.pipeline.frozen_features import new_embeddings
from ilk.pipeline.known_labels import known_of
from ilk.pipeline.opening import open_images
from ilk.pipeline.results import circumstances, write_results
from ilk.pipeline.resume import trained_on_embeddings
from ilk.pipeline.trained import load_model
from ilk.runs.folder import SELECTION, Run
from ilk.runs.tables import Cluster
from ilk.system.devices import choose_device, make_fabric, recorded_precision
from ilk.system.files import file_hash, read_json, write_json
from ilk.system.processes import shared, together
from ilk.system.progress import Watch
from ilk.training.assign import PARTS, assign_in_parts, parts_begun, remove_parts
from ilk.training.confidence import mark_uncertain, read_calibration, write_calibration


def predict(
    run: Run,
    source: Any,
    out: Path,
    *,
    device: str = "auto",
    labels: Any = None,
    cache_dir: str | os.PathLike[str] | None = None,
    embeddings: Any = None,
    report: bool = True,
    watch: Watch | None = None,
) -> list[Cluster]:
    """Assigns the images of a new source with the model of `run`; writes the tables into the folder `out`.

    A prediction that was stopped there goes on, if model and images are the same. Several processes share
    the images; all but the first return an empty list.
    `embeddings`: those of the images, where the run was trained on embeddings that were computed elsewhere.
    """
    plan = run.open().config
    if embeddings is not None and not trained_on_embeddings(plan):
        raise ValueError(f"'{run}' takes images, not embeddings. Leave --embeddings out.")
    device = choose_device(device)
    precision = recorded_precision(plan.precision, device)
    fabric, target = make_fabric(device, precision), Run(out)
    first = fabric.is_global_zero
    watch = watch if watch is not None and first else Watch()
    with together(), target.working(begun=(PARTS,)) if first else nullcontext():
        target.folder = shared(target.folder)
        if first and not parts_begun(target.folder):
            target.refuse_used(but=(PARTS,))
        method = load_method(run) if embeddings is not None else load_model(run, watch)
        images = open_images(
            source, device=device, size=plan.images.size, channels=plan.images.channels, labels=labels,
            cache_dir=cache_dir, watch=watch,
        )  # fmt: skip
        data: Images | Features = images
        if embeddings is not None and plan.encoder is not None:
            data = new_embeddings(embeddings, images, plan.encoder.feature_dim)
        known = known_of(run, images)
        calibration = read_calibration(run)
        identity = {
            "temperature": list(calibration.temperature),
            "model": file_hash(run / "model.safetensors"), "source": images.fingerprint, "precision": precision,
            "embeddings": fingerprint(data.rows) if isinstance(data, Features) else None,
        }  # fmt: skip
        assignments = assign_in_parts(
            method, data, fabric, target.folder, identity, temperature=calibration.temperature,
            progress=lambda done, total: watch.progress(done, total, "assigning"),
        )  # fmt: skip
        if assignments is None:
            return []
        facts = circumstances(images, device, precision)
        target.write_config(plan.replace(predicted_with=str(run.folder.resolve()), **facts))
        if (run / SELECTION).is_file():  # scores of new images are scores of that model
            write_json(target / SELECTION, read_json(run / SELECTION))
        assignments = mark_uncertain(assignments, calibration)
        write_calibration(target, calibration)
        clusters = write_results(target, images, assignments, plan.n_clusters, known, report=report, watch=watch)
        remove_parts(target.folder)
        return clusters
