"""Before the first step: images opened at the size that is needed, and the plan of a new or an earlier training."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from ilk.analysis.hierarchy import Hierarchy, grow_tree, most_clusters
from ilk.images import Images, load_images
from ilk.images.embeddings import read_embeddings, stand_ins
from ilk.networks.features import Features
from ilk.networks.pretrained import Encoder
from ilk.pipeline.build import method_of
from ilk.pipeline.frozen import (
    EMBEDDINGS,
    as_begun,
    choose_encoder,
    encoder_of,
    freeze,
    freeze_again,
    given,
    heads_again,
    whole_encoder,
    whole_encoder_of,
)
from ilk.pipeline.initial_weights import find_initial, start_from
from ilk.pipeline.known_labels import find_known, known_of
from ilk.pipeline.plan import Frozen, Plan, make_plan, replan
from ilk.pipeline.request import MAX_SIZE, Request
from ilk.runs.folder import Run
from ilk.system.processes import in_turn, shared
from ilk.system.progress import Watch


def open_images(
    source: Any,
    *,
    device: str,
    size: int | None = None,
    most: int | None = None,
    channels: int | None = None,
    labels: Any = None,
    cache_dir: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
) -> Images:
    """`load_images`, saying what was found; without a `size`, at most `most` pixels, or what suits the device."""
    watch = watch or Watch()
    images = in_turn(
        lambda: load_images(
            source,
            image_size=size,
            max_image_size=most or MAX_SIZE[device.split(":")[0]],
            channels=channels,
            labels=labels,
            cache_dir=cache_dir,
            progress=watch.progress,
        )
    )
    colour = {1: "gray", 3: "colour"}.get(images.shape[0], f"{images.shape[0]} channels")
    watch.say(f"{images.name}: {colour}, used at {images.shape[2]} x {images.shape[1]} pixels")
    if images.bad:
        first = images.bad[0]
        watch.warn(
            f"{len(images.bad):,} files could not be read and are left out (the first: {first.id}: {first.reason})"
        )
    if images.labels is not None:
        watch.say(
            f"{int((images.labels >= 0).sum()):,} have a label, {len(images.label_names)} kinds; used for scores only"
        )
    return images


def open_extra(source: Any, images: Images, *, device: str, cache_dir: Any, watch: Watch) -> Images | None:
    """The extra images of `source` (None: none), in the size and channels of `images`."""
    if source is None:
        return None
    channels, size, _ = images.shape
    return open_images(
        source, device=device, size=size, channels=channels, labels="none", cache_dir=cache_dir, watch=watch
    )


def prepare(
    request: Request, source: Any, fabric: Fabric, *, learn: Callable[[Request], Encoder], extra: Any, labels: Any,
    cache_dir: Any, watch: Watch,
) -> tuple[Images, Plan]:  # fmt: skip
    """The images of a new training, at the size that its encoder or backbone wants, and the plan for them.

    `learn`: trains the encoder that is needed to find the number of clusters where there is none.
    """

    def opened(size: int | None, most: int | None = None, channels: int | None = None) -> Images:
        return open_images(
            source, device=fabric.device.type, size=size, most=most, channels=channels, labels=labels,
            cache_dir=cache_dir, watch=watch,
        )  # fmt: skip

    if request.embeddings is not None:
        images, rows = images_and_given(request.embeddings, source, lambda: opened(request.wanted_size()))
        return images, plan_heads(request, images, given(rows, request, images, watch), fabric, watch)
    request = as_begun(request)
    encoder = choose_encoder(request, None, watch)
    if encoder is None:
        whole = whole_encoder(request, watch)
        if whole is not None:
            images = opened(request.image_size, whole.image_size, whole.channels)
            request = replace(request, backbone=whole)
        else:
            images = opened(request.wanted_size())
            if extra is None:  # extra images ask for a backbone that learns
                encoder = choose_encoder(request, images, watch)
    if encoder is None and request.choice is not None:
        feasible_range(request, len(images))
        encoder = learn(representation(request, len(images)))
        request, extra = heads_after(request, encoder), None
    if encoder is not None:
        if extra is not None:
            raise ValueError(
                "Extra images (--extra) teach a backbone, and here only heads are trained on a frozen encoder. Leave"
                " --extra out, or train the backbone too with --train all."
            )
        images = opened(request.image_size, encoder.image_size, encoder.channels)
        if request.choice is not None:
            feasible_range(request, len(images))
        frozen = freeze(request, encoder, images, fabric, cache_dir, watch)
        return images, plan_heads(request, images, frozen, fabric, watch)
    further = open_extra(extra, images, device=fabric.device.type, cache_dir=cache_dir, watch=watch)
    return images, make_plan(request, images, fabric, further)


def images_and_given(embeddings: Any, source: Any, opened: Callable[[], Images]) -> tuple[Images, np.ndarray]:
    """The images of `source` and the embeddings given for them; without a source, gray squares stand in."""
    if source is not None:
        images = opened()
        return images, read_embeddings(embeddings, images)
    rows = read_embeddings(embeddings, None)
    return stand_ins(len(rows)), rows


def plan_heads(request: Request, images: Images, frozen: Frozen, fabric: Fabric, watch: Watch) -> Plan:
    """The plan of a training of heads on features, from which the number of clusters is found if it is not given."""
    if request.choice is None:
        return make_plan(request, images, fabric, frozen=frozen)
    found = find_number(request, frozen, watch)
    plan = make_plan(replace(request, n_clusters=found.chosen), images, fabric, frozen=frozen)
    number = {
        "asked": request.n_clusters, "chosen": found.chosen, "range": list(found.range), "sure": found.sure,
        "sentence": found.sentence,
    }  # fmt: skip
    return replace(plan, hierarchy=found, config=plan.config.replace(number=number))


def feasible_range(request: Request, n: int) -> tuple[int, int | None]:
    """The numbers of clusters to choose from, as far as `n` images allow; None: no limit was asked for.

    Raises ValueError where they allow none. To be called before anything is trained or encoded.
    """
    assert request.choice is not None  # asked by the caller
    low, high = request.choice
    most = most_clusters(n)
    if most == 0:
        raise ValueError(f"To find the number of clusters takes at least 20 images; there are {n}. Give --clusters K.")
    if low > most:
        raise ValueError(
            f"--clusters {request.n_clusters} asks to choose from at least {low} clusters, and {n:,} images allow at"
            f" most {most}, ten images each. Give a lower range, or one number: --clusters K."
        )
    return low, None if high is None else min(high, most)


MANY = 30  # clusters of a training whose only purpose is a representation


def representation(request: Request, n: int) -> Request:
    """The training that comes first where the number of clusters is unknown and there is no encoder.

    It has more clusters than are expected, so that no two kinds have to share one.
    """
    assert request.choice is not None  # asked by the caller
    most = request.choice[1] or MANY
    settings = dict(request.settings)
    if request.preset == "default":  # a representation without clusters in it: any number of them would be a prejudice
        settings.setdefault("warm_start", 0.99)
    return replace(request, n_clusters=max(2, min(MANY, most, n // 5)), train="all", settings=settings, select="last")


def heads_after(request: Request, encoder: Encoder) -> Request:
    """The training of heads on the representation that was learnt; what was asked of the first is not asked again."""
    return replace(
        request, backbone=encoder, train="heads", preset="default", epochs=None, minutes=None, image_size=None,
        settings={}, init=None, freeze_backbone=False,
    )  # fmt: skip


def find_number(request: Request, frozen: Frozen, watch: Watch) -> Hierarchy:
    """The tree of the features and the number of clusters that it speaks for; says so."""
    features = frozen.features
    low, high = feasible_range(request, len(features))
    if request.choice is not None and high != request.choice[1]:
        watch.say(f"choosing from {low} to {high} clusters: {len(features):,} images allow no more, ten images each")
    views = features.rows[:, 1:] if features.views else None
    found = shared(  # what processes find may differ in a last digit, and so by a cluster
        grow_tree(features.plain(), views=views, k_low=low, k_high=high, seed=request.seed, progress=watch.progress)
    )
    watch.say(found.sentence)
    return found


def reopen(
    request: Request, source: Any, run: Run, extra: Any, fabric: Fabric, labels: Any, cache_dir: Any, watch: Watch
) -> tuple[Images, Plan]:
    """The images and the plan of an existing run, if what is asked does not contradict it."""
    config, device = run.open().config, fabric.device.type
    number = config.asked_clusters
    if request.n_clusters not in (number, config.n_clusters) or request.method != config.method:
        raise ValueError(
            f"'{run}' is a run of {config.method} with {number} clusters; it cannot go on as"
            f" {request.method} with {request.n_clusters}. Choose another --out."
        )

    def opened() -> Images:
        return open_images(
            source, device=device, size=config.images.size, channels=config.images.channels, labels=labels,
            cache_dir=cache_dir, watch=watch,
        )  # fmt: skip

    was_given = config.encoder is not None and config.encoder.spec == EMBEDDINGS
    if was_given and request.embeddings is None:
        raise ValueError(f"'{run}' began with embeddings that were computed elsewhere. Give them again (--embeddings).")
    rows = None
    if was_given:
        images, rows = images_and_given(request.embeddings, source, opened)
    else:
        images = opened()
    if images.fingerprint != config.source.fingerprint:
        raise ValueError(
            f"The images are not those that '{run}' began with ({config.source.name}): files were added, removed"
            " or changed. Start a new run with another --out."
        )
    began = config.extra
    if began and extra is None:
        raise ValueError(f"'{run}' began with extra images, {began.name}. Give them again with --extra.")
    if extra is not None and not began:
        raise ValueError(f"'{run}' began without extra images. Leave --extra out, or start a new run.")
    further = open_extra(extra, images, device=device, cache_dir=cache_dir, watch=watch)
    if began and further is not None and further.fingerprint != began.fingerprint:
        raise ValueError(
            f"The extra images are not those that '{run}' began with ({began.name}). Give the same with --extra."
        )
    known = known_of(run, images)
    if request.known_labels is not None:
        asked, _ = find_known(request.known_labels, images, request.k)
        if known is None or asked.labels() != known.labels():
            raise ValueError(f"The known labels are not those that '{run}' began with. Leave --known-labels out.")
    module = request.backbone if isinstance(request.backbone, nn.Module) else None
    features: Features | None = None
    if config.encoder is not None and config.features is not None and not run.finished:
        if rows is not None:
            frozen = given(rows, replace(request, neighbours=config.features.neighbours), images, watch)
            if frozen.encoder["fingerprint"] != config.encoder.fingerprint:
                raise ValueError(
                    f"The embeddings are not those that '{run}' began with. Start a new run with another --out."
                )
        else:
            encoder = encoder_of(run, watch, module, offline=request.offline)
            frozen = freeze_again(config, encoder, images, fabric, cache_dir, watch)
        method, features = heads_again(config, frozen), frozen.features
    elif config.encoder is not None:
        method = method_of(config)
    else:
        method = method_of(config, module or whole_encoder_of(config, watch, offline=request.offline))
    if (begun := config.init) and not (run / "checkpoint.pt").exists() and not run.finished:
        start_from(method, find_initial(request.init or begun.path), expected=begun.hash)
    done = len(run.log())
    watch.say(f"going on with '{run}' after {done} of {config.train.epochs} epochs, with the settings it began with")
    return images, replan(config, method, further, known, features)
