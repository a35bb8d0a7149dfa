"""Features of a frozen encoder, or embeddings computed elsewhere, in the place of images."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from ilk.analysis.neighbours import near_rows
from ilk.images import Images, default_cache_dir
from ilk.images.embeddings import fingerprint, read_embeddings
from ilk.networks.features import Features
from ilk.networks.pretrained import Encoder
from ilk.runs.config import EncoderSettings
from ilk.system.progress import Watch
from ilk.training.encode import encode_images
from ilk.views import ViewRecipe

EMBEDDINGS = "embeddings:"  # the encoder of a run that was given embeddings


def encoder_settings(encoder: Encoder) -> EncoderSettings:
    """What config.json says of an encoder."""
    about: dict[str, Any] = asdict(encoder.about)
    return EncoderSettings(
        **about, feature_dim=encoder.feature_dim, image_size=encoder.image_size, channels=encoder.channels
    )


def embeddings_settings(rows: np.ndarray, images: Images) -> EncoderSettings:
    """What config.json says in the place of an encoder where embeddings, (n, d), were given."""
    return EncoderSettings(
        spec=EMBEDDINGS, title="embeddings computed elsewhere", fingerprint=fingerprint(rows),
        feature_dim=rows.shape[1], image_size=images.shape[2], channels=images.shape[0],
    )  # fmt: skip


def encoded(
    encoder: Encoder, images: Images, fabric: Fabric, *, recipe: ViewRecipe, views: int, neighbours: int,
    cache_dir: str | os.PathLike[str] | None, watch: Watch,
) -> Features:  # fmt: skip
    """The features of all images, of `views` random views of each, and the positions of its nearest images.

    Features come from the cache in `cache_dir` where they are there already.
    """
    rows = encode_images(
        encoder, images, fabric, recipe=recipe, views=views, size=encoder.image_size,
        identity=encoder.about.fingerprint,
        cache_dir=Path(cache_dir).expanduser() if cache_dir is not None else default_cache_dir(),
        waiting=lambda: watch.say("waiting for another process that encodes the same images"),
        progress=lambda done, total: watch.progress(done, total, f"encoding ({1 + views} x)" if views else "encoding"),
    )  # fmt: skip
    return with_neighbours(rows, neighbours, watch)


def given_features(rows: np.ndarray, neighbours: int, watch: Watch) -> Features:
    """Embeddings computed elsewhere, (n, d), as features of images without random views."""
    return with_neighbours(rows[:, None].astype(np.float16), neighbours, watch)


def with_neighbours(rows: np.ndarray, neighbours: int, watch: Watch) -> Features:
    """Features, (n, 1 + views, d), with the `neighbours` nearest images of each. ValueError if there is no second view.

    An image has at most n - 1 neighbours.
    """
    few = min(neighbours, len(rows) - 1)
    if rows.shape[1] == 1 and few < 1:
        raise ValueError(
            "Heads learn from views of an image or from its neighbours, and there are neither. Use --feature-views 4"
            " or --neighbours 10."
        )
    near = None
    if few > 0:
        near = near_rows(
            rows[:, 0], few, progress=lambda done, total: watch.progress(done, total, "finding neighbours")
        )
    return Features(rows, near)


def new_embeddings(embeddings: Any, images: Images, width: int) -> Features:
    """Embeddings of new images for a run that was trained on such, `width` wide. Raises ValueError for other widths."""
    rows = read_embeddings(embeddings, images)
    if rows.shape[1] != width:
        raise ValueError(
            f"The embeddings have {rows.shape[1]} features and those of the training had {width}. They must come from"
            " the same encoder."
        )
    return Features(rows[:, None])
