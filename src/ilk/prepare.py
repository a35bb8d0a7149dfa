"""Before the first step: images opened at the size that is needed, and the plan of a new or an earlier training."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from ilk.features import Features
from ilk.frozen import (
    choose_encoder,
    encoder_of,
    freeze,
    freeze_again,
    heads_again,
    whole_encoder,
    whole_encoder_of,
)
from ilk.images import Images, load_images
from ilk.initial import find_initial, start_from
from ilk.known import find_known, known_of
from ilk.plan import Plan, make_plan, replan
from ilk.request import MAX_SIZE, Request
from ilk.runs import Run, method_of
from ilk.watch import Watch


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
    images = load_images(
        source, image_size=size, max_image_size=most or MAX_SIZE[device.split(":")[0]], channels=channels,
        labels=labels, cache_dir=cache_dir, progress=watch.progress,
    )  # fmt: skip
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
    request: Request, source: Any, fabric: Fabric, *, extra: Any, labels: Any, cache_dir: Any, watch: Watch
) -> tuple[Images, Plan]:
    """The images of a new training, at the size that its encoder or backbone wants, and the plan for them."""

    def opened(size: int | None, most: int | None = None, channels: int | None = None) -> Images:
        return open_images(
            source, device=fabric.device.type, size=size, most=most, channels=channels, labels=labels,
            cache_dir=cache_dir, watch=watch,
        )  # fmt: skip

    encoder = choose_encoder(request, None, watch)
    if encoder is None:
        whole = whole_encoder(request, watch)
        if whole is not None:
            images = opened(request.image_size, whole.image_size, whole.channels)
            request = replace(request, backbone=whole)
        else:
            images = opened(request.wanted_size())
            encoder = choose_encoder(request, images, watch)
    if encoder is not None:
        if extra is not None:
            raise ValueError(
                "Extra images (--extra) teach a backbone, and here only heads are trained on a frozen encoder. Leave"
                " --extra out, or train the backbone too with --train all."
            )
        images = opened(request.image_size, encoder.image_size, encoder.channels)
        frozen = freeze(request, encoder, images, fabric, cache_dir, watch)
        return images, make_plan(request, images, fabric, frozen=frozen)
    further = open_extra(extra, images, device=fabric.device.type, cache_dir=cache_dir, watch=watch)
    return images, make_plan(request, images, fabric, further)


def reopen(
    request: Request, source: Any, run: Run, extra: Any, fabric: Fabric, labels: Any, cache_dir: Any, watch: Watch
) -> tuple[Images, Plan]:
    """The images and the plan of an existing run, if what is asked does not contradict it."""
    config, device = run.open().config, fabric.device.type
    if request.n_clusters != config["n_clusters"] or request.method != config["method"]:
        raise ValueError(
            f"'{run}' is a run of {config['method']} with {config['n_clusters']} clusters; it cannot go on as"
            f" {request.method} with {request.n_clusters}. Choose another --out."
        )
    images = open_images(
        source, device=device, size=config["images"]["size"], channels=config["images"]["channels"], labels=labels,
        cache_dir=cache_dir, watch=watch,
    )  # fmt: skip
    if images.fingerprint != config["source"]["fingerprint"]:
        raise ValueError(
            f"The images are not those that '{run}' began with ({config['source']['name']}): files were added, removed"
            " or changed. Start a new run with another --out."
        )
    began = config.get("extra")
    if began and extra is None:
        raise ValueError(f"'{run}' began with extra images, {began['name']}. Give them again with --extra.")
    if extra is not None and not began:
        raise ValueError(f"'{run}' began without extra images. Leave --extra out, or start a new run.")
    further = open_extra(extra, images, device=device, cache_dir=cache_dir, watch=watch)
    if began and further is not None and further.fingerprint != began["fingerprint"]:
        raise ValueError(
            f"The extra images are not those that '{run}' began with ({began['name']}). Give the same with --extra."
        )
    known = known_of(run, images)
    if request.known_labels is not None:
        given, _ = find_known(request.known_labels, images, request.n_clusters)
        if known is None or given.labels() != known.labels():
            raise ValueError(f"The known labels are not those that '{run}' began with. Leave --known-labels out.")
    module = request.backbone if isinstance(request.backbone, nn.Module) else None
    features: Features | None = None
    if config.get("encoder") is not None and not run.finished:
        encoder = encoder_of(config, watch, module, offline=request.offline)
        frozen = freeze_again(config, encoder, images, fabric, cache_dir, watch)
        method, features = heads_again(config, frozen), frozen.features
    elif config.get("encoder") is not None:
        method = method_of(config)
    else:
        method = method_of(config, module or whole_encoder_of(config, watch, offline=request.offline))
    if (begun := config.get("init")) and not (run / "checkpoint.pt").exists() and not run.finished:
        start_from(method, find_initial(request.init or begun["path"]), expected=begun["hash"])
    done = len(run.log())
    watch.say(
        f"going on with '{run}' after {done} of {config['train']['epochs']} epochs, with the settings it began with"
    )
    return images, replan(config, method, further, known, features)
