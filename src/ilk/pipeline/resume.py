"""A training that was begun earlier: what is asked must not contradict it, and it is built as it was."""

from __future__ import annotations

from typing import Any

from lightning_fabric import Fabric
from torch import nn

from ilk.images import Images
from ilk.networks.features import Features
from ilk.networks.pretrained import Encoder
from ilk.pipeline.begin import with_embeddings
from ilk.pipeline.build import Training, build
from ilk.pipeline.frozen_features import EMBEDDINGS, embeddings_settings, encoded, given_features
from ilk.pipeline.initial_weights import find_initial, start_from
from ilk.pipeline.known_labels import Known, find_known, known_of
from ilk.pipeline.opening import open_extra, open_images
from ilk.pipeline.request import Request
from ilk.pipeline.trained import pretrained_backbone, run_encoder
from ilk.runs.config import Plan
from ilk.runs.folder import Run
from ilk.runs.unfinished import state_of, why_no_results
from ilk.system.progress import Watch
from ilk.views import from_description


def reopen(
    request: Request, source: Any, run: Run, fabric: Fabric, *, extra: Any = None, labels: Any = None,
    cache_dir: Any = None, watch: Watch,
) -> Training:  # fmt: skip
    """The training of an existing run, as it began. Raises ValueError where what is asked contradicts it."""
    plan, device = run.open().config, fabric.device.type
    refuse_untrainable(run)
    refuse_other_request(request, run, plan, extra=extra is not None)
    images, features = reopen_images(request, source, run, plan, device, labels, cache_dir, watch)
    further = open_extra(extra, images, device=device, cache_dir=cache_dir, watch=watch)
    if plan.extra is not None and further is not None and further.fingerprint != plan.extra.fingerprint:
        raise ValueError(
            f"The extra images are not those that '{run}' began with ({plan.extra.name}). Give the same with --extra."
        )
    known = reopen_known(request, run, images)
    module = request.backbone if isinstance(request.backbone, nn.Module) else None
    encoder: Encoder | None = None
    if plan.encoder is None:
        module = module or pretrained_backbone(plan.backbone, watch, offline=request.offline)
    elif features is None and not run.finished:
        encoder = run_encoder(run, watch, module, offline=request.offline)
        features = planned_features(plan, encoder, images, fabric, cache_dir, watch)
    training = build(
        plan, images, backbone=module, features=features, encoder=encoder, extra=further, known=known
    )  # fmt: skip
    if plan.init is not None and not (run / "checkpoint.pt").exists() and not run.finished:
        start_from(training.method, find_initial(request.init or plan.init.path), expected=plan.init.hash)
    watch.say(
        f"going on with '{run}' after {len(run.log())} of {plan.train.epochs} epochs, with the settings it began with"
    )
    return training


def refuse_untrainable(run: Run) -> None:
    """Raises ValueError for a folder whose training cannot go on: it would start from scratch over a trained model."""
    state = state_of(run.folder)
    if state in ("model", "prediction"):
        raise ValueError(
            f"'{run}' cannot be resumed, since it has no checkpoint of a training. {why_no_results(run.folder)}. To"
            " train anew, choose another --out."
        )


def refuse_other_request(request: Request, run: Run, plan: Plan, *, extra: bool) -> None:
    """Raises ValueError for another method or number of clusters, and for missing or needless sources."""
    number = plan.asked_clusters
    if request.n_clusters not in (number, plan.n_clusters) or request.method != plan.method:
        raise ValueError(
            f"'{run}' is a run of {plan.method} with {number} clusters; it cannot go on as {request.method} with"
            f" {request.n_clusters}. Choose another --out."
        )
    if trained_on_embeddings(plan) and request.embeddings is None:
        raise ValueError(f"'{run}' began with embeddings that were computed elsewhere. Give them again (--embeddings).")
    if plan.extra is not None and not extra:
        raise ValueError(f"'{run}' began with extra images, {plan.extra.name}. Give them again with --extra.")
    if extra and plan.extra is None:
        raise ValueError(f"'{run}' began without extra images. Leave --extra out, or start a new run.")


def reopen_images(
    request: Request, source: Any, run: Run, plan: Plan, device: str, labels: Any, cache_dir: Any, watch: Watch
) -> tuple[Images, Features | None]:
    """The images of the run, and the features in embeddings that were given. Raises ValueError for other ones."""

    def opened() -> Images:
        return open_images(
            source, device=device, size=plan.images.size, channels=plan.images.channels, labels=labels,
            cache_dir=cache_dir, watch=watch,
        )  # fmt: skip

    rows = None
    if trained_on_embeddings(plan):
        images, rows = with_embeddings(request.embeddings, source, opened)
    else:
        images = opened()
    if images.fingerprint != plan.source.fingerprint:
        raise ValueError(
            f"The images are not those that '{run}' began with ({plan.source.name}): files were added, removed or"
            " changed. Start a new run with another --out."
        )
    if rows is None or run.finished or plan.features is None or plan.encoder is None:
        return images, None
    if embeddings_settings(rows, images).fingerprint != plan.encoder.fingerprint:
        raise ValueError(f"The embeddings are not those that '{run}' began with. Start a new run with another --out.")
    return images, given_features(rows, plan.features.neighbours, watch)


def reopen_known(request: Request, run: Run, images: Images) -> Known | None:
    """The known labels of the run. Raises ValueError where others are asked for."""
    known = known_of(run, images)
    if request.known_labels is not None:
        asked, _ = find_known(request.known_labels, images, request.k)
        if known is None or asked.labels() != known.labels():
            raise ValueError(f"The known labels are not those that '{run}' began with. Leave --known-labels out.")
    return known


def planned_features(
    plan: Plan, encoder: Encoder, images: Images, fabric: Fabric, cache_dir: Any, watch: Watch
) -> Features:
    """The features that `plan` trains heads on, from the cache or computed again."""
    if plan.features is None:
        raise ValueError("This plan trains a backbone on images, not heads on features.")
    return encoded(
        encoder, images, fabric, recipe=from_description(plan.views.a), views=plan.features.views,
        neighbours=plan.features.neighbours, cache_dir=cache_dir, watch=watch,
    )  # fmt: skip


def trained_on_embeddings(plan: Plan) -> bool:
    """Whether the heads were trained on embeddings that were computed elsewhere."""
    return plan.encoder is not None and plan.encoder.spec == EMBEDDINGS
