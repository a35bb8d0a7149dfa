"""A plan: every decision about a training as typed, validated values, equal to the run's config.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ilk.system.validation import sentence_of, shown

if TYPE_CHECKING:
    from typing_extensions import Self

FORMAT = 1
MOST_CLUSTERS = 100_000
MOST_SIDE = 4096  # pixels
MOST_CHANNELS = 1024
MOST_IMAGES = 10**10
MOST_WIDTH = 10**6  # features
MOST_SETTING = 10**7  # any other whole number: widths, queues, steps
MOST_TEXT = 10_000  # characters of a name or path
MOST_PARTS = 1000  # heads side by side, views of an image: each is an object of its own
LONGEST = 2**40  # epochs, seeds and the like, which cost no memory
MANY_OBJECTS = ("cluster_heads", "repeats", "batch_parts")  # settings of methods that count objects
CUSTOM = "custom:"  # before the class name of a backbone that was given in Python


def without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "it must be text without the character NUL")
    return text


def simple_value(value: Any) -> Any:
    """`value` if it is a number, a text, true, false or null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= MOST_TEXT and "\0" not in value:
        return value
    if isinstance(value, (int, float)) and -1e9 <= value <= 1e9:
        return value
    raise PydanticCustomError("simple", "it must be a number, a text, true, false or null")


def simple_values(value: Any) -> Any:
    """`value` if it is a simple value or a list of at most `MOST_PARTS` of them."""
    if isinstance(value, (list, tuple)) and len(value) <= MOST_PARTS:
        return [simple_value(part) for part in value]
    return simple_value(value)


def method_setting(value: Any) -> Any:
    """`value` if it is simple and, where it is a whole number, neither negative nor beyond `MOST_SETTING`."""
    if isinstance(value, int) and not isinstance(value, bool) and not 0 <= value <= MOST_SETTING:
        raise PydanticCustomError("setting", f"it must be from 0 to {MOST_SETTING:,}")
    return simple_value(value)


Text = Annotated[str, Field(max_length=MOST_TEXT), AfterValidator(without_nul)]
Simple = Annotated[Any, PlainValidator(simple_value)]
Long = Annotated[int, Field(ge=0, le=LONGEST)]
Positive = Annotated[float, Field(ge=0, le=1e300)]
Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]
Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
Images = Annotated[int, Field(ge=1, le=MOST_IMAGES)]
Clusters = Annotated[int, Field(ge=2, le=MOST_CLUSTERS)]
Width = Annotated[int, Field(ge=1, le=MOST_WIDTH)]


class Section(BaseModel):
    """A frozen table of settings. Keys that this version does not know are kept and written again."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, in the order of the fields: those that were given, without defaults."""
        return self.model_dump(exclude_unset=True)

    def replace(self, **changes: Any) -> Self:
        """A copy with other values, checked. Raises ValueError, a sentence."""
        result: Self = checked(type(self), {**self.as_dict(), **changes})
        return result

    @property
    def unknown(self) -> list[str]:
        """The names of the settings that this version of ilk does not know."""
        return sorted(self.model_extra or {})


class ImageShape(Section):
    """How many images were trained on, and their shape; images are square."""

    n: Images
    channels: Channels
    size: Side  # pixels


class TrainConfig(Section):
    """Everything that the training loop needs to know. `batch_size` counts the images of all processes."""

    epochs: Annotated[int, Field(ge=1, le=LONGEST)]
    batch_size: Annotated[int, Field(ge=1, le=MOST_SETTING)]
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: Positive
    weight_decay: Positive
    momentum: Positive
    schedule: Literal["constant", "cosine"]
    warmup: Long  # steps
    seed: Long
    decay_vectors: bool = True


class ViewSettings(Section):
    """The name of a pair of view recipes, and each recipe's fields as `ilk.views.describe` gives them."""

    name: Text
    a: dict[str, Annotated[Any, PlainValidator(simple_values)]]
    b: dict[str, Annotated[Any, PlainValidator(simple_values)]]


class FrontEndSettings(Section):
    """The fixed layer before the backbone: normalisation by channel, then edges."""

    mean: list[Annotated[float, Field(ge=-1e6, le=1e6)]] | None = None
    std: list[Annotated[float, Field(ge=1e-9, le=1e6)]] | None = None
    sobel: bool


class InitialWeights(Section):
    """The run or file whose weights the training began with."""

    path: Text
    hash: Text
    parts: list[Text] = []


class ExtraImages(Section):
    """Images that helped the training and were not clustered."""

    name: Text
    n: Images | None = None
    fingerprint: Text


class ClassNames(Section):
    names: list[Text]


class KnownClasses(Section):
    """The known labels that steered the training: of how many images, and the classes of clusters 0, 1, ..."""

    images: Annotated[int, Field(ge=0, le=MOST_IMAGES)] | None = None
    names: list[Text]


class EncoderSettings(Section):
    """The frozen encoder whose features the heads were trained on."""

    spec: Text
    title: Text = ""
    source: Text = ""
    licence: Text = ""
    parameters: int | None = None
    bytes: int | None = None
    fingerprint: Text
    revision: Text | None = None
    feature_dim: Width
    image_size: Side | None = None
    channels: Channels | None = None


class FeatureSettings(Section):
    """Which features of the encoder the heads were trained on."""

    dim: Width | None = None  # directions of the features that the heads see
    views: Annotated[int, Field(ge=0, le=MOST_PARTS)]  # random views of each image
    neighbours: Annotated[int, Field(ge=0, le=MOST_CLUSTERS)]
    neighbour_share: Annotated[float, Field(ge=0, le=1)]  # of the second views that are a neighbour's


class NumberChoice(Section):
    """How the number of clusters was chosen, where it was."""

    asked: Simple
    chosen: Clusters
    range: list[Annotated[int, Field(ge=1, le=MOST_CLUSTERS)]]
    sure: Text
    sentence: Text


class Source(Section):
    """Where the images came from. Images of an unknown source are never taken for those of the run."""

    name: Text = "unknown"
    kind: Text | None = None
    fingerprint: Text = ""
    original_size: list[int] | None = None
    bad_files: Annotated[int, Field(ge=0)] | None = None


class Plan(Section):
    """What was decided for a training, and the circumstances of a run: all that config.json holds.

    Fields without a default are in the config.json of every version; the defaults stand in for what older
    versions did not write. Make one with `plan_from`, which raises a sentence for what does not fit.
    """

    format: Literal[1] = 1
    method: Text
    method_from: dict[str, Text] | None = None  # package, or file or module and class; None: a method of ilk
    preset: Text
    n_clusters: Clusters
    seed: Long
    select: Literal["last", "min_loss", "oracle_acc"] = "last"
    method_config: dict[str, Annotated[Any, PlainValidator(method_setting)]]
    backbone: Text
    front_end: FrontEndSettings | None = None
    views: ViewSettings
    train: TrainConfig
    images: ImageShape
    init: InitialWeights | None = None
    freeze_backbone: bool = False
    extra: ExtraImages | None = None
    known_labels: KnownClasses | None = None
    encoder: EncoderSettings | None = None
    features: FeatureSettings | None = None
    notes: list[Text] = []
    number: NumberChoice | None = None
    # the circumstances
    source: Source = Source()
    labels: ClassNames | None = None
    device: Text | None = None
    precision: Text | None = None
    versions: dict[str, Simple] = {}
    command: list[Text] = []
    asked: dict[str, Annotated[Any, PlainValidator(simple_values)]] | None = None  # options other than their defaults
    created: Text | None = None
    predicted_with: Text | None = None  # the run whose model assigned these images
    imported: dict[str, Simple] | None = None  # the published checkpoint that the weights come from

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        """Checks what more than one field decides. Raises ValueError, a sentence."""
        for name in MANY_OBJECTS:
            value = self.method_config.get(name)
            if isinstance(value, int) and value > MOST_PARTS:
                raise ValueError(f"method_config.{name} must be at most {MOST_PARTS}; got {value}.")
        for name in ("mean", "std"):
            values = getattr(self.front_end, name, None)
            if values is not None and len(values) != self.images.channels:
                raise ValueError(
                    f"front_end.{name} must be a list of {self.images.channels} numbers; got {shown(values)}."
                )
        if (self.encoder is None) != (self.features is None):
            raise ValueError("encoder and features must both be tables of settings, or both be missing.")
        if self.known_labels is not None and len(self.known_labels.names) > self.n_clusters:
            raise ValueError(f"known_labels has {len(self.known_labels.names)} names for {self.n_clusters} clusters.")
        return self

    @property
    def custom_backbone(self) -> str | None:
        """The class of a backbone or encoder that was given in Python, None for those that have a name."""
        return self.backbone.removeprefix(CUSTOM) if self.backbone.startswith(CUSTOM) else None

    @property
    def asked_clusters(self) -> Any:
        """The number of clusters as it was asked for: a number, "auto" or a range."""
        return self.n_clusters if self.number is None else self.number.asked

    @property
    def cluster_names(self) -> list[str | None]:
        """The class of each cluster, None where no known labels name it."""
        names = [] if self.known_labels is None else self.known_labels.names
        return [*names, *[None] * (self.n_clusters - len(names))]


def plan_from(values: Mapping[str, Any]) -> Plan:
    """The plan with these values. Raises ValueError, a sentence, for a value of another type or range."""
    result: Plan = checked(Plan, values)
    return result


def checked(record: type[Section], values: Mapping[str, Any]) -> Any:
    """`values` as that record. Raises ValueError, a sentence."""
    try:
        return record.model_validate(dict(values))
    except ValidationError as error:
        raise ValueError(sentence_of(error, lambda name: " ".join(name.split())[:100])) from None


def read_plan(values: Any, file: Path) -> Plan:
    """The plan in the contents of a config.json. Raises ValueError, a sentence that names `file`."""
    refuse_foreign(values, file)
    missing = [name for name in needed() if name not in values]
    if missing:
        raise ValueError(f"'{file.parent}' is not a run folder of ilk: its config.json lacks {', '.join(missing)}.")
    try:
        return plan_from(values)
    except ValueError as error:
        raise ValueError(f"'{file}' is damaged or was not written by ilk: {error}") from None


def needed() -> Iterable[str]:
    """The settings that every config.json has."""
    return ["format", *(name for name, field in Plan.model_fields.items() if field.is_required())]


def refuse_foreign(values: Any, file: Path) -> None:
    """Raises ValueError, a sentence, unless `values` is a table of a format that this version reads."""
    if not isinstance(values, dict):
        raise ValueError(f"'{file}' does not hold a run's settings.")
    if values.get("format") not in (None, FORMAT):
        raise ValueError(
            f"'{file.parent}' has format {str(values['format'])[:20]}; this version of ilk reads format {FORMAT}."
            " Update ilk, or make the run again."
        )


def summary(values: Any, file: Path) -> dict[str, Any]:
    """The settings as they stand, for a report, which needs no more than a valid number of clusters."""
    refuse_foreign(values, file)
    k = values.get("n_clusters")
    if not isinstance(k, int) or not 1 <= k <= MOST_CLUSTERS:
        raise ValueError(f"'{file}' does not hold a run's settings: n_clusters is {shown(k)}.")
    return dict(values)
