"""`Clusterer`: the scikit-learn face."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from torch import nn

from ilk.images import Images
from ilk.methods import Method, use_method
from ilk.pipeline.build import build, save_model
from ilk.pipeline.fitting import Fitted, fit_in_memory, train_in_memory
from ilk.pipeline.initial_weights import front_name
from ilk.pipeline.known_labels import FILE as KNOWN_FILE
from ilk.pipeline.known_labels import Known, known_by_id
from ilk.pipeline.opening import open_images
from ilk.pipeline.request import Request
from ilk.pipeline.results import Listing, circumstances, listing_of, write_hierarchy
from ilk.pipeline.resume import planned_features
from ilk.pipeline.saving import Origin, folder_files, origin_of, read_results, write_files, write_saved
from ilk.pipeline.trained import OWN, backbone_name, load_parts, on_images, trained_parts
from ilk.runs.folder import Run
from ilk.runs.tables import write_known_labels
from ilk.system.devices import choose_device, choose_precision, make_fabric, recorded_precision
from ilk.system.own_folders import REPRESENTATION
from ilk.system.progress import Watch, epoch_line
from ilk.system.wording import in_python_words, python_words
from ilk.training.assign import Assignments, assign
from ilk.training.confidence import read_calibration, write_calibration
from ilk.training.snapshots import Moments
from ilk.views import ViewRecipe

RENAMED = {"seed": "random_state", "out": "folder"}  # options that have another name here
worded = in_python_words(RENAMED)


class Warner(Watch):
    """Silent but for what should not be missed, which becomes a Python warning."""

    def warn(self, text: str) -> None:
        warnings.warn(python_words(text, RENAMED), stacklevel=3)


class Clusterer(ClusterMixin, TransformerMixin, BaseEstimator):
    """Finds images of the same kind by deep contrastive clustering.

    Wherever images are taken, `X` is anything that `load_images` reads: an array or tensor
    (n, h, w[, c]), a folder, a list of paths, a torch Dataset, an archive, a Parquet file.

    Parameters
    ----------
    n_clusters : int or str, default="auto"
        How many clusters: a number, auto, or a range to choose from, such as 5-60.
    method : str or a subclass of Method, default="cc"
        The clustering method; ilk methods lists them. One of your own: FILE.py:CLASS.
    preset : str, default="default"
        A set of settings of the method, by name; ilk methods lists them.
    epochs : int or None, default=None
        How often to go through all images. None: as many as the preset says.
    minutes : float or None, default=None
        Train for about this many minutes; instead of epochs.
    image_size : int or None, default=None
        Resize the images to this many pixels a side. None: their own size, at most 48 on a CPU.
    backbone : str, nn.Module or None, default=None
        The network that reads the images. Pretrained: dinov2-small, hf:ID, hf:FOLDER, run:FOLDER, weights:FILE,
        ... Trained from scratch: small, resnet18, resnet34-cifar, ... None: chosen to suit the images. A module
        needs an integer `feature_dim`; a copy of it is trained.
    views : str, ViewRecipe, pair of them or None, default=None
        How images are changed at random: photo, drawing, object, ...; ilk methods lists them. None: chosen to
        suit the images. A pair is for the first and the second view.
    settings : dict or None, default=None
        Settings of the method to use instead of those of the preset. A dict.
    random_state : int, RandomState or None, default=0
        Random seed; the same seed gives the same result. None: another seed at each fit.
    device : str, default="auto"
        Where to compute: auto, cpu, cuda, cuda:0 or mps.
    precision : str, default="auto"
        Number format to compute in: auto, float32 or bf16. It is that of training; new images are assigned in
        the precision of the training.
    cache_dir : path or None, default=None
        Where decoded images are kept; None: $ILK_CACHE or the user's cache folder.
    verbose : bool, default=False
        Whether to print what the command line would print.
    init : path or None, default=None
        Start from the weights of a run folder or a .safetensors file.
    freeze_backbone : bool, default=False
        Train only the heads, and leave the backbone as it is.
    train : str or None, default=None
        What to train: heads (on the features of a frozen backbone) or all. None: heads with a pretrained
        backbone, else all.
    feature_views : int or None, default=None
        With a frozen backbone: how many random views of each image to learn from; 0 is fastest. None: 4, or 0
        where the encoder sees 128 pixels or more on a CPU.
    neighbours : int, default=10
        With a frozen backbone: how many nearest images of each image to learn from.
    balance : str or None, default=None
        Expected sizes of the clusters: uniform (all alike), estimated, or off (any). None: as the preset says.
    offline : bool, default=False
        Never use the network.

    Attributes
    ----------
    labels_ : (n,) int64, the cluster of each image.
    n_clusters_ : how many clusters there are.
    hierarchy_ : the tree of `ilk.analysis.hierarchy` that the number was chosen from; None where it was given.
    confidence_ : (n,) float32 in [0, 1], the probability of that cluster, calibrated without labels.
    ids_ : the id of each image (its path within the source), in order.
    embedding_ : (n, d) float16, rows of length 1; like images are near.
    history_ : one dict an epoch: loss terms, effective clusters, mean confidence, images/s.
    notes_ : what was chosen automatically, and why.
    bad_files_ : what could not be read, and why.
    n_iter_ : epochs trained.
    cluster_names_ : the class of each cluster, None where no known labels named it.
    """

    _home = Path()  # holds the folder of a representation that was learned first
    _representation: Mapping[str, bytes] = {}  # the files of that folder, after pickling
    _images: Images | None = None  # those of the last training; None after load and after pickling
    _listing: Listing | None = None
    _assignments: Assignments | None = None
    _moments: Moments | None = None
    _origin: Origin | None = None  # the run that was loaded

    def __init__(
        self, n_clusters: int | str = "auto", *, method: str | type[Method] = "cc", preset: str = "default",
        epochs: int | None = None, minutes: float | None = None, image_size: int | None = None,
        backbone: str | nn.Module | None = None,
        views: str | ViewRecipe | tuple[ViewRecipe, ViewRecipe] | None = None,
        settings: Mapping[str, Any] | None = None, random_state: Any = 0, device: str = "auto", precision: str = "auto",
        cache_dir: str | os.PathLike[str] | None = None, verbose: bool = False,
        init: str | os.PathLike[str] | None = None, freeze_backbone: bool = False, train: str | None = None,
        feature_views: int | None = None, neighbours: int = 10, balance: str | None = None, offline: bool = False,
    ) -> None:  # fmt: skip
        self.n_clusters = n_clusters
        self.method = method
        self.preset = preset
        self.epochs = epochs
        self.minutes = minutes
        self.image_size = image_size
        self.backbone = backbone
        self.views = views
        self.settings = settings
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.cache_dir = cache_dir
        self.verbose = verbose
        self.init = init
        self.freeze_backbone = freeze_backbone
        self.train = train
        self.feature_views = feature_views
        self.neighbours = neighbours
        self.balance = balance
        self.offline = offline

    @worded
    def fit(self, X: Any, y: Any = None, *, extra: Any = None, known_labels: Any = None) -> Clusterer:
        """Trains on the images of `X`. `y` is ignored: only `known_labels` ever steer a training.

        `extra`: further images, which help the training and are not clustered. `known_labels`: a CSV or
        Parquet file (id, label), a dict from id, or one label an image with None, -1 or "" for unknown.
        """
        fitted = fit_in_memory(
            self._request(known_labels), X, home=self._make_home, extra=extra, cache_dir=self.cache_dir,
            watch=self._watch(),
        )  # fmt: skip
        self.history_: list[dict[str, Any]] = []
        self._encoder, self.hierarchy_ = fitted.training.encoder, fitted.training.hierarchy
        self._take(fitted)
        return self

    def _make_home(self) -> Run:
        """A temporary folder for the run of a representation that has to be learned first."""
        self._kept = TemporaryDirectory(prefix="ilk-")
        self._home = Path(self._kept.name)
        return Run(self._home)

    @worded
    def partial_fit(self, X: Any, y: Any = None, *, epochs: int = 1) -> Clusterer:
        """Trains on with new images, for `epochs` passes at a tenth of the learning rate; fits if not fitted yet.

        Attributes such as `labels_` then describe the new images; `history_` grows. Known labels stay known
        if the images are the same.
        """
        if not hasattr(self, "method_"):
            return self.fit(X)
        images = self._open(X)
        device = choose_device(self.device)
        precision = choose_precision(self.precision, device)
        settings = self.config_.train
        batch = min(settings.batch_size, len(images))
        if batch < self.n_clusters_:
            raise ValueError(
                f"partial_fit needs at least as many images as clusters ({self.n_clusters_}); got {len(images)}."
            )
        train = settings.replace(
            epochs=epochs, batch_size=batch, schedule="constant", warmup=0, learning_rate=settings.learning_rate / 10,
            seed=settings.seed + len(self.history_),
        )  # fmt: skip
        known = self._still_known(images)
        if images.fingerprint != self.config_.source.fingerprint:
            self.method_.resize(len(images))
        fabric, watch, features = make_fabric(device, precision), self._watch(), None
        if self._encoder is not None:
            features = planned_features(self.config_, self._encoder, images, fabric, self.cache_dir, watch)
        plan = self.config_.replace(train=train)
        training = build(
            plan, images, features=features, encoder=self._encoder, known=known, method=self.method_
        )  # fmt: skip
        fitted = train_in_memory(training, fabric, watch)
        # config.json keeps the settings of the first training, and describes the images of the last
        shape = plan.images.replace(n=len(images))
        facts = circumstances(images, device, precision)
        plan = plan.replace(train=settings, images=shape, **facts)
        self._take(replace(fitted, training=replace(training, plan=plan)))
        return self

    def _still_known(self, images: Images) -> Known | None:
        """The known labels if `images` are those they were given for; otherwise names without images."""
        if self._known is None or images.fingerprint == self.config_.source.fingerprint:
            return self._known
        return Known(np.full(len(images), -1), self._known.names)

    def _take(self, fitted: Fitted) -> None:
        """Sets the attributes that describe a training; its records are added to those of earlier ones."""
        training, assignments, done = fitted.training, fitted.assignments, len(self.history_)
        plan, images = training.plan, training.images
        self.config_, self.n_clusters_, self._known = plan, plan.n_clusters, training.known
        self.history_ += [{**record, "epoch": record["epoch"] + done} for record in fitted.history]
        self.method_ = training.method.cpu()
        self._assignments, self._images, self._moments = assignments, images, fitted.moments
        self._listing, self._origin = listing_of(images), None
        self._calibration = fitted.calibration
        self.labels_, self.confidence_, self.embedding_ = (
            assignments.cluster, assignments.confidence, assignments.embedding
        )  # fmt: skip
        self.ids_, self.bad_files_, self.notes_ = images.ids, images.bad, plan.notes
        self.n_iter_, self.cluster_names_ = len(self.history_), plan.cluster_names

    @worded
    def predict(self, X: Any) -> np.ndarray:
        """The cluster of each image, (n,) int64."""
        return self._assign(X).cluster

    @worded
    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each cluster, (n, n_clusters) float32; rows sum to 1."""
        probability = self._assign(X, probabilities=True).probability
        assert probability is not None  # asked for in the line above
        return probability

    @worded
    def transform(self, X: Any) -> np.ndarray:
        """The embedding of each image, (n, d) float32, rows of length 1."""
        return self._assign(X).embedding.astype(np.float32)

    @worded
    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a run folder for `load` and the command line. Raises FileExistsError if it is not empty.

        After pickling, what is made of the images themselves (thumbnails, duplicates) is left out, with a warning.
        """
        self._fitted()
        run = Run(folder)
        own = self.config_.encoder is not None and self.config_.encoder.spec == OWN
        representation = self._home / REPRESENTATION if own else None
        if representation is not None and not self._representation and not (representation / "config.json").is_file():
            raise ValueError(
                f"The folder of the representation that this Clusterer has learnt is gone ('{representation}'). Put it"
                " back, or fit again."
            )
        run.create()
        if representation is not None:
            write_files(run / REPRESENTATION, self._representation or folder_files(representation))
        if self.hierarchy_ is not None:
            write_hierarchy(run, self.hierarchy_, self.ids_)
        save_model(run, self.method_)
        write_calibration(run, self._calibration)
        if self._known is not None:
            write_known_labels(run / KNOWN_FILE, self.ids_, self._known.labels())
        if self._moments is not None:
            self._moments.write(run / "moments.npz")
        run.write_config(self.config_)  # from here the folder is a run, with its model
        for record in self.history_:
            run.append_log(record)
        if self._assignments is not None and self._listing is not None:
            write_saved(
                run, self._listing, self._assignments, self.n_clusters_, self._known, images=self._images,
                origin=self._origin, watch=self._watch(),
            )  # fmt: skip

    @classmethod
    @worded
    def load(
        cls, folder: str | os.PathLike[str], *, method: str | type[Method] | None = None,
        backbone: nn.Module | None = None, device: str = "auto", offline: bool = False,
    ) -> Clusterer:  # fmt: skip
        """A fitted Clusterer from a run folder.

        `method`: your own, if the run used one: its class, "FILE.py:CLASS" or "MODULE:CLASS". Code that a run folder
        names is not run by itself. `backbone`: the untrained module, or the encoder, if the run used one of your own.
        `offline`: nothing is asked of the network for a pretrained one.
        """
        if method is not None:
            use_method(method)
        run = Run(folder).open()
        plan = run.config
        recipe = {name: value for name, value in plan.train.as_dict().items() if name not in ("epochs", "seed")}
        recipe["front_end"] = front_name(plan.front_end)
        loaded = cls(
            plan.n_clusters, method=method or plan.method, preset=plan.preset, epochs=plan.train.epochs,
            image_size=plan.images.size, backbone=backbone if plan.custom_backbone is not None else backbone_name(run),
            views=None if plan.views.name == "custom" else plan.views.name,
            settings={**recipe, **plan.method_config}, random_state=plan.seed, device=device,
            init=None if plan.init is None else plan.init.path, freeze_backbone=plan.freeze_backbone,
            offline=offline, **trained_parts(plan),
        )  # fmt: skip
        loaded.method_, loaded._encoder = load_parts(run, loaded._watch(), copy.deepcopy(backbone), offline=offline)
        loaded.config_, loaded.history_ = plan, run.log()
        loaded.n_clusters_, loaded.hierarchy_, loaded._home = plan.n_clusters, None, run.folder
        loaded._calibration = read_calibration(run)
        loaded.n_iter_, loaded.notes_, loaded.cluster_names_ = len(loaded.history_), plan.notes, plan.cluster_names
        loaded._known = None
        if run.finished:
            loaded._listing, loaded._assignments = read_results(run)
            loaded._origin = origin_of(run)
            loaded.labels_, loaded.confidence_ = loaded._assignments.cluster, loaded._assignments.confidence
            loaded.ids_, loaded.bad_files_ = loaded._listing.ids, loaded._listing.bad
            loaded.embedding_ = loaded._assignments.embedding
            if plan.known_labels is not None:
                loaded._known = known_by_id(run, loaded.ids_, plan.known_labels.names)
        return loaded

    def _request(self, known_labels: Any) -> Request:
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31 - 1)
        backbone = copy.deepcopy(self.backbone) if isinstance(self.backbone, nn.Module) else self.backbone
        clusters = int(self.n_clusters) if isinstance(self.n_clusters, np.integer) else self.n_clusters
        return Request(
            n_clusters=clusters, method=cast(str, self.method),  # a class becomes its name
            preset=self.preset, epochs=self.epochs, minutes=self.minutes, image_size=self.image_size,
            backbone=backbone, views=self.views, seed=int(seed), device=self.device,
            precision=self.precision, settings=self.settings or {}, init=self.init,
            freeze_backbone=self.freeze_backbone, known_labels=known_labels, train=self.train,
            feature_views=self.feature_views, neighbours=self.neighbours, balance=self.balance, offline=self.offline,
        )  # fmt: skip

    def _fitted(self) -> None:
        if not hasattr(self, "method_"):
            raise NotFittedError("This Clusterer has not been fitted yet. Call fit(X) first.")

    def _open(self, X: Any) -> Images:
        self._fitted()
        shape = self.config_.images
        return open_images(
            X, device="cpu", size=shape.size, channels=shape.channels, cache_dir=self.cache_dir, watch=self._watch()
        )

    def _assign(self, X: Any, *, probabilities: bool = False) -> Assignments:
        images = self._open(X)
        device = choose_device(self.device)
        precision = recorded_precision(self.config_.precision, device)
        method = self.method_ if self._encoder is None else on_images(self.method_, self._encoder)
        found = assign(
            method, images, make_fabric(device, precision), temperature=self._calibration.temperature,
            probabilities=probabilities,
        )  # fmt: skip
        method.cpu()
        return found

    def _watch(self) -> Watch:
        return Printer() if self.verbose else Warner()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        for name in ("_images", "_kept"):  # the training images may be a memory map of this machine
            state.pop(name, None)
        home = state.get("_home")
        if home is not None and (home / REPRESENTATION / "config.json").is_file():
            state["_representation"] = folder_files(home / REPRESENTATION)  # its folder goes with the original
        return state


class Printer(Warner):
    """Plain lines on standard output."""

    def say(self, text: str) -> None:
        print(python_words(text, RENAMED))

    def epoch(self, record: dict[str, Any]) -> None:
        print(epoch_line(record))
