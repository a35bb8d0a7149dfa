"""A new training: its images opened at the size that its encoder or backbone wants, decided on, and built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from ilk.analysis.hierarchy import Hierarchy, grow_tree, most_clusters
from ilk.images import Images
from ilk.images.embeddings import read_embeddings, stand_ins
from ilk.images.sample import sample_images
from ilk.networks.features import Features
from ilk.networks.pretrained import Encoder
from ilk.pipeline.build import Training, build
from ilk.pipeline.choose_encoder import (
    encoder_for,
    images_decide,
    named_encoder,
    whole_encoder,
    with_initial_encoder,
)
from ilk.pipeline.decide import decide, decide_views, view_settings
from ilk.pipeline.frozen_features import embeddings_settings, encoded, encoder_settings, given_features
from ilk.pipeline.initial_weights import find_initial, start_from
from ilk.pipeline.known_labels import find_known
from ilk.pipeline.opening import max_size, open_extra, open_images
from ilk.pipeline.request import Request
from ilk.runs.config import EncoderSettings, ViewSettings
from ilk.sampling import steps_of
from ilk.system.processes import in_turn, shared
from ilk.system.progress import Watch
from ilk.training.pace import epochs_with_extra, seconds_per_step
from ilk.views import from_description, get_views

MANY = 30  # clusters of a training whose only purpose is a representation
Learn = Callable[[Request], Encoder]


def begin(
    request: Request, source: Any, fabric: Fabric, *, learn: Learn, extra: Any = None, labels: Any = None,
    cache_dir: Any = None, watch: Watch,
) -> Training:  # fmt: skip
    """A new training on the images of `source`. Raises ValueError where the request cannot be met.

    `source` is read more than once, so it must not be an iterator. `learn` trains the encoder that the search for a
    number of clusters needs where there is none.
    """

    def opened(size: int | None, most: int | None = None, channels: int | None = None) -> Images:
        return open_images(
            source, device=fabric.device.type, size=size, most=most, channels=channels, labels=labels,
            cache_dir=cache_dir, watch=watch,
        )  # fmt: skip

    if request.embeddings is not None:
        return on_embeddings(request, source, lambda: opened(request.wanted_size()), fabric, watch)
    request = with_initial_encoder(request)
    encoder = named_encoder(request, watch)
    images: Images | None = None
    if encoder is None:
        whole = whole_encoder(request, watch)
        if whole is not None:
            images = opened(request.image_size, whole.image_size, whole.channels)
            request = replace(request, backbone=whole)
        elif extra is None and images_decide(request):  # extra images ask for a backbone that learns
            encoder = look(request, source, fabric.device.type, watch)
    if encoder is None:
        images = opened(request.wanted_size()) if images is None else images
        if request.choice is None:
            further = open_extra(extra, images, device=fabric.device.type, cache_dir=cache_dir, watch=watch)
            return new_training(request, images, fabric, further)
        feasible_range(request, len(images))
        encoder = learn(representation(request, len(images)))
        request, extra = heads_after(request, encoder), None
    if extra is not None:
        raise ValueError(
            "Extra images (--extra) teach a backbone, and here only heads are trained on a frozen encoder. Leave"
            " --extra out, or train the backbone too with --train all."
        )
    images = opened(request.image_size, encoder.image_size, encoder.channels)
    if request.choice is not None:
        feasible_range(request, len(images))
    notes: list[str] = []
    views = decide_views(request, "auto", images, notes)
    count = feature_views(request, encoder, fabric.device.type)
    for note in notes if count else []:
        watch.say(note)
    features = encoded(
        encoder, images, fabric, recipe=from_description(views.a), views=count,
        neighbours=request.neighbours, cache_dir=cache_dir, watch=watch,
    )  # fmt: skip
    return new_heads(request, images, features, encoder_settings(encoder), views, encoder, fabric, watch)


FEATURE_VIEWS = 4  # random views of each image that heads learn from, where they cost little
LARGE = 128  # pixels of an encoder's input from which on each view costs a CPU tens of milliseconds


def feature_views(request: Request, encoder: Encoder, device: str) -> int:
    """How many random views of each image the encoder sees beside the image itself.

    On a CPU a large encoder sees none: the nearest neighbours are views enough (flowers on EfficientNet-Lite0: 0.704
    without views), and four views make the encoder's pass five times as long.
    """
    if request.feature_views is not None:
        return request.feature_views
    cheap = device != "cpu" or encoder.image_size < LARGE or request.neighbours == 0
    return FEATURE_VIEWS if cheap else 0


def look(request: Request, source: Any, device: str, watch: Watch) -> Encoder | None:
    """The pretrained encoder for photographs, None where a few of the images show that they are something else."""

    def sample() -> Images | None:
        try:
            return sample_images(source, image_size=request.wanted_size(), max_image_size=max_size(device))
        except ValueError:  # none of these few can be read; whether others can is said when all are opened
            return None

    images = in_turn(sample)
    return None if images is None else encoder_for(images, request, watch)


def on_embeddings(
    request: Request, source: Any, opened: Callable[[], Images], fabric: Fabric, watch: Watch
) -> Training:
    """A new training of heads on embeddings that were computed elsewhere."""
    images, rows = with_embeddings(request.embeddings, source, opened)
    features = given_features(rows, request.neighbours, watch)
    views = view_settings("none", *get_views("none"))
    return new_heads(request, images, features, embeddings_settings(rows, images), views, None, fabric, watch)


def with_embeddings(embeddings: Any, source: Any, opened: Callable[[], Images]) -> tuple[Images, np.ndarray]:
    """The images of `source` and the embeddings given for them; without a source, gray squares stand in."""
    if source is not None:
        images = opened()
        return images, read_embeddings(embeddings, images)
    rows = read_embeddings(embeddings, None)
    return stand_ins(len(rows)), rows


def new_training(
    request: Request, images: Images, fabric: Fabric, extra: Images | None = None, *, features: Features | None = None,
    encoder: EncoderSettings | None = None, views: ViewSettings | None = None, network: Encoder | None = None,
) -> Training:  # fmt: skip
    """The training that `request` asks for on these images, or, where given, on their `features`.

    `encoder`, `views`: as `decide` takes them. `network`: the encoder itself. Raises ValueError where the
    request cannot be met.
    """
    request.refuse_needless(extra=extra is not None)
    initial = None if request.init is None else find_initial(request.init)
    known = warning = None
    if request.known_labels is not None:
        known, warning = find_known(request.known_labels, images, request.k)
    plan = decide(
        request, images, fabric, initial=initial, extra=extra, known=known, features=features, encoder=encoder,
        views=views,
    )  # fmt: skip
    module = request.backbone if isinstance(request.backbone, nn.Module) and features is None else None
    training = build(plan, images, backbone=module, features=features, encoder=network, extra=extra, known=known)
    notes = list(plan.notes)
    if initial is not None:
        begun = start_from(training.method, initial)
        plan = plan.replace(init=begun)
        notes.append(f"{' and '.join(begun.parts)} as in '{initial.path}'")
    if request.freeze_backbone:
        notes.append("the backbone is frozen: only the heads learn")
    if known is not None:
        notes.append(f"the labels of {len(known.rows):,} images ({len(known.names)} kinds) steer the training")
    training = replace(training, plan=plan, warnings=[warning] if warning else [])
    if request.minutes is not None:
        training = fit_minutes(request.minutes, training, fabric, notes)
    if extra is not None:
        check_extra(training, fabric.world_size)
        train = training.plan.train
        further = steps_of(len(extra), train.batch_size) * epochs_with_extra(training.method, train.epochs)
        notes.append(
            f"{len(extra):,} extra images help and are not clustered: {further:,.0f} more steps an epoch, on average"
        )
    return replace(training, plan=training.plan.replace(notes=notes))


def new_heads(
    request: Request, images: Images, features: Features, encoder: EncoderSettings, views: ViewSettings,
    network: Encoder | None, fabric: Fabric, watch: Watch,
) -> Training:  # fmt: skip
    """A new training of heads on features, which also give the number of clusters where it was not."""
    if request.choice is None:
        return new_training(
            request, images, fabric, features=features, encoder=encoder, views=views, network=network
        )  # fmt: skip
    tree = find_number(request, features, watch)
    training = new_training(
        replace(request, n_clusters=tree.chosen), images, fabric, features=features, encoder=encoder, views=views,
        network=network,
    )  # fmt: skip
    number = {
        "asked": request.n_clusters, "chosen": tree.chosen, "range": list(tree.range), "sure": tree.sure,
        "sentence": tree.sentence,
    }  # fmt: skip
    return replace(training, hierarchy=tree, plan=training.plan.replace(number=number))


def find_number(request: Request, features: Features, watch: Watch) -> Hierarchy:
    """The tree of the features and the number of clusters that it suggests; tells `watch`."""
    low, high = feasible_range(request, len(features))
    if request.choice is not None and high != request.choice[1]:
        watch.say(f"choosing from {low} to {high} clusters: {len(features):,} images allow no more, ten images each")
    views = features.rows[:, 1:] if features.views else None
    tree = shared(  # what processes compute may differ in a last digit, and so by a cluster
        grow_tree(features.plain(), views=views, k_low=low, k_high=high, seed=request.seed, progress=watch.progress)
    )
    watch.say(tree.sentence)
    return tree


def feasible_range(request: Request, n: int) -> tuple[int, int | None]:
    """The numbers of clusters to choose from, as far as `n` images allow; None: no limit was asked for.

    Raises ValueError where they allow none. Call it before anything is trained or encoded.
    """
    low, high = request.choice or (2, None)
    most = most_clusters(n)
    if most == 0:
        raise ValueError(f"To find the number of clusters takes at least 20 images; there are {n}. Give --clusters K.")
    if low > most:
        raise ValueError(
            f"--clusters {request.n_clusters} asks to choose from at least {low} clusters, and {n:,} images allow at"
            f" most {most}, ten images each. Give a lower range, or one number: --clusters K."
        )
    return low, None if high is None else min(high, most)


def representation(request: Request, n: int) -> Request:
    """The training that comes first where the number of clusters is unknown and there is no encoder.

    It has more clusters than are expected, so that no two kinds have to share one.
    """
    most = (request.choice or (2, None))[1] or MANY
    settings = dict(request.settings)
    if request.preset == "default":  # no clusters while it is learned: any number of them would be a prejudice
        settings.setdefault("warm_start", 0.99)
    return replace(request, n_clusters=max(2, min(MANY, most, n // 5)), train="all", settings=settings, select="last")


def heads_after(request: Request, encoder: Encoder) -> Request:
    """The training of heads on a representation that was learned; options of that training do not hold for this."""
    return replace(
        request, backbone=encoder, train="heads", preset="default", epochs=None, minutes=None, image_size=None,
        settings={}, init=None, freeze_backbone=False,
    )  # fmt: skip


def fit_minutes(minutes: float, training: Training, fabric: Fabric, notes: list[str]) -> Training:
    """`training` with as many epochs as fit `minutes`, measured on this machine."""
    train, method, extra = training.plan.train, training.method, training.extra
    seconds = fabric.broadcast(seconds_per_step(method, training.data, training.views, train, fabric, extra))
    steps: float = steps_of(len(training.data), train.batch_size)
    if extra is not None:
        steps += steps_of(len(extra), train.batch_size) * epochs_with_extra(method, train.epochs)
    epochs = max(1, int(0.9 * 60 * minutes / (seconds * steps)))
    plural = "epoch fits" if epochs == 1 else "epochs fit"
    notes.append(f"{epochs} {plural} {minutes:g} minutes: {seconds:.3f} s a step, {steps:.0f} steps an epoch")
    return replace(training, plan=training.plan.replace(train=train.replace(epochs=epochs)))


def check_extra(training: Training, world: int) -> None:
    """Raises ValueError unless the method takes such extra images in some epoch."""
    extra, images, method, epochs = training.extra, training.images, training.method, training.plan.train.epochs
    if extra is None:
        return
    if extra.shape != images.shape:
        theirs, ours = ("x".join(map(str, shape)) for shape in (extra.shape, images.shape))
        raise ValueError(
            f"The extra images are {theirs} (channels, height, width), the others {ours}; both must match."
        )
    if len(extra) < 2 * world:
        raise ValueError(f"At least {2 * world} extra images are needed; {extra.name} has {len(extra)}.")
    if not epochs_with_extra(method, epochs):
        plural = "epoch" if epochs == 1 else "epochs"
        raise ValueError(
            f"With these settings {method.name} takes extra images in none of its {epochs} {plural} (dcdc does in the"
            " turns of its over-clustering head, so over_clusters must not be 0; cc does in every epoch)."
        )
