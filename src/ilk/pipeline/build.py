"""From a plan to the method, views and data that it describes: for new, resumed, loaded and predicting runs alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ilk.analysis.hierarchy import Hierarchy
from ilk.images import Images
from ilk.methods import method_of_run
from ilk.methods.base import Method
from ilk.methods.records import declared, read_settings
from ilk.networks.backbones import build_backbone
from ilk.networks.features import FeatureBackbone, Features, FeatureViews
from ilk.networks.pretrained import Encoder
from ilk.networks.weights import Header, Misfit, header_of, put_state, refuse_misfit, seeded_weights
from ilk.pipeline.known_labels import Known
from ilk.runs.config import Plan, TrainConfig
from ilk.runs.folder import Run
from ilk.runs.unfinished import why_no_model
from ilk.sampling import spaced
from ilk.system.allocator import memory
from ilk.system.files import replacing
from ilk.views import Views, from_description

FITTED_ON = 20_000  # images whose features give the directions that heads see, at most


@dataclass(frozen=True)
class Training:
    """What a plan describes, ready to be trained."""

    plan: Plan
    method: Method
    views: Views | FeatureViews
    images: Images
    features: Features | None = None  # what heads are trained on, in the place of the images
    encoder: Encoder | None = None  # whose features they are
    extra: Images | None = None  # images that help and are not clustered
    known: Known | None = None
    hierarchy: Hierarchy | None = None  # the tree that the number of clusters was chosen from
    warnings: list[str] = field(default_factory=list)

    @property
    def data(self) -> Images | Features:
        """What the method takes: the features where only heads are trained, else the images."""
        return self.images if self.features is None else self.features

    @property
    def train(self) -> TrainConfig:
        """The settings of the training loop."""
        return self.plan.train

    @property
    def known_rows(self) -> list[int]:
        """Positions of the images with a known label."""
        return [] if self.known is None else self.known.rows


def build(
    plan: Plan, images: Images, *, backbone: nn.Module | None = None, features: Features | None = None,
    encoder: Encoder | None = None, extra: Images | None = None, known: Known | None = None,
    hierarchy: Hierarchy | None = None, method: Method | None = None,
) -> Training:  # fmt: skip
    """The training that `plan` describes, with the weights that its seed gives.

    `backbone`: the module, where the plan's is one of the user's own or a pretrained encoder that is trained on.
    `features`: those of `encoder`, where the plan trains heads alone. `method`: one that is trained already, to be
    trained on. Raises ValueError for settings that this version does not know or that do not fit this machine.
    """
    if plan.train.unknown:
        raise ValueError(
            f"This run has training settings that this version of ilk does not know: {plan.train.unknown}."
        )
    if method is None:
        method = build_method(plan, backbone, features=features)
    if known is not None and known.rows:
        method.know(torch.from_numpy(known.codes))
    views = build_views(plan, features)
    return Training(plan, method, views, images, features, encoder, extra, known, hierarchy)


def build_views(plan: Plan, features: Features | None) -> Views | FeatureViews:
    """The views of the images, or of their features, that `plan` describes."""
    if features is not None and plan.features is not None:
        return FeatureViews(1 + features.views, features.neighbours, plan.features.neighbour_share)
    return Views(from_description(plan.views.a), from_description(plan.views.b), size=plan.images.size)


def build_method(
    plan: Plan, backbone: nn.Module | None = None, *, features: Features | None = None, stored: Header | None = None
) -> Method:
    """The untrained method that `plan` describes, with the weights that its seed gives.

    Where heads are trained on an encoder, the method takes its features, and `features` (None where stored weights
    follow) give the directions that the heads see. Before memory is taken the size is checked: ValueError for
    what cannot be, Misfit for what does not fit the `stored` tensors.
    """
    kind = method_of_run(plan.method, plan.method_from)
    images, k = plan.images, plan.n_clusters
    shape: tuple[int, int] | None = None
    if plan.encoder is not None and plan.features is not None:
        shape = plan.encoder.feature_dim, plan.features.dim or 0
        if not 1 <= shape[1] <= shape[0]:
            raise ValueError(
                f"features.dim of this run must be a whole number from 1 to {shape[0]}; it is {plan.features.dim}."
            )
        with torch.device("meta"):  # takes no memory yet
            backbone = FeatureBackbone(*shape)
    if backbone is None and plan.custom_backbone is not None:
        raise ValueError(
            f"This run was trained with a backbone of your own ({plan.custom_backbone}). Pass it in Python:"
            " Clusterer.load(folder, backbone=...)."
        )
    settings = settings_of(kind, plan.method_config)
    with seeded_weights(plan.seed):
        if backbone is None:
            backbone = build_backbone(
                plan.backbone, image_size=images.size, in_channels=images.channels,
                front_end=None if plan.front_end is None else plan.front_end.as_dict(),
            )  # fmt: skip
        refuse_huge(outline := outline_of(kind, backbone, k, images.n, settings))
        if stored is not None:
            refuse_misfit(outline, stored)
        if shape is not None:
            backbone = feature_backbone(*shape, features)
        method = kind(backbone, k, images.n, settings)
    if plan.freeze_backbone:
        method.freeze_backbone()
    return method


def feature_backbone(width: int, dim: int, features: Features | None) -> FeatureBackbone:
    """The first layer of heads on features: onto the `dim` main directions of `features`, if there are any."""
    backbone = FeatureBackbone(width, dim)
    if features is not None:
        backbone.fit(features.rows[spaced(len(features), FITTED_ON).numpy(), 0])
    return backbone


def settings_of(kind: type[Method], values: Mapping[str, Any]) -> Any:
    """The method's settings. Raises ValueError for an unknown one, or one of another type or range."""
    record = type(next(iter(kind.presets.values())).config)
    if unknown := sorted(set(values) - set(declared(record))):
        raise ValueError(f"This run has settings that this version of ilk does not know ({', '.join(unknown)}).")
    try:
        return read_settings(record, values)
    except ValueError as error:
        raise ValueError(f"A setting of this run is not as it should be: {error}") from None


def outline_of(kind: type[Method], backbone: nn.Module, k: int, n: int, settings: Any) -> Method:
    """The method without memory for its own tensors, and without a random draw."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return kind(backbone, k, n, settings)


def refuse_huge(outline: Method) -> None:
    """Raises ValueError if the method would take more than half of this machine's memory."""
    needed = sum(tensor.numel() * tensor.element_size() for tensor in outline.state_dict().values())
    if needed > memory() / 2:
        raise ValueError(
            f"With these settings ({outline.n_clusters:,} clusters, {outline.n_images:,} images) the method takes"
            f" {needed / 1e9:,.0f} GB; this machine has {memory() / 1e9:,.0f} GB. Use"
            " fewer clusters; the config.json of a run from elsewhere may be damaged."
        )


def save_model(run: Run, method: Method) -> None:
    """Writes the trained weights as `model.safetensors`."""
    tensors = {name: tensor.contiguous() for name, tensor in method.state_dict().items()}
    with replacing(run / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def load_method(run: Run, backbone: nn.Module | None = None) -> Method:
    """The trained method of a run, in evaluation mode. `backbone`: the untrained module, where it was given in Python.

    Raises FileNotFoundError when training has not finished, ValueError when the file does not fit.
    """
    file = run / "model.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"'{run.folder}' has no model. {why_no_model(run.folder)}")
    try:
        method = build_method(run.config, backbone, stored=header_of(file))
        put_state(method, load_file(file))
    except Misfit as error:
        raise ValueError(f"'{file}' is damaged or does not fit its config.json: {error}") from None
    return method.eval()
