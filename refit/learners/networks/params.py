"""The arguments of every network: how it is trained. An architecture's own arguments come on top of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from refit.config import nearest
from refit.errors import UserError

__all__ = ["ArchitectureParams", "Augmentation", "FixMatch", "Pretraining", "checked"]

P = TypeVar("P", bound=BaseModel)
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Closed(BaseModel):
    """A frozen group of arguments, closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Augmentation(Closed):
    """Random changes of each training image, drawn again in every epoch."""

    crop: int = Field(0, ge=0, description="pixels of black border on each side, out of which an image is cut again")
    flip: bool = Field(False, description="mirror half of the images left to right")
    rotate: float = Field(0.0, ge=0, le=180, description="largest angle in degrees, to either side")
    noise: Share = Field(0.0, description="standard deviation of added noise, as a share of the range of a pixel")
    zoom: Share = Field(0.0, description="largest change of size, smaller or larger, as a share")
    erase: Share = Field(0.0, description="side of a square that is blackened, as a share of the image's")


STRONG = Augmentation(crop=2, rotate=20.0, noise=0.05, zoom=0.25, erase=0.3)


class Pretraining(Closed):
    """How a network is trained without labels, before it is trained with them."""

    method: Literal["simclr", "rotation", "denoising", "masked_tokens"] = Field(
        validation_alias=AliasChoices("method", "kind"),
        description="images: simclr, rotation; columns and vectors: denoising; texts: masked_tokens",
    )
    epochs: int = Field(10, ge=1, description="passes over the training rows and those without a label")
    then: Literal["fine_tune", "linear_probe"] = Field(
        "fine_tune", description="train all weights with labels, or only the last layer"
    )
    batch_rows: int | None = Field(None, ge=2, description="rows of one step; null: as with labels")
    learning_rate: Positive | None = Field(None, description="null: as with labels")
    hidden: Share = Field(0.3, description="denoising, masked_tokens: share of the values that are hidden")
    temperature: Positive = Field(0.5, description="simclr: the lower, the more the most similar images count")
    projection: int = Field(64, ge=1, description="simclr: units in which two views of an image are compared")
    augment: Augmentation = Field(STRONG, description="simclr: changes that give the two views of an image")


class FixMatch(Closed):
    """How a network of images learns from rows without a label while it is trained with the others."""

    ratio: int = Field(7, ge=1, description="rows without a label in a step, as a multiple of those with one")
    threshold: float = Field(0.95, ge=0, le=1, description="probability from which a prediction is taken as a label")
    weight: Positive = Field(1.0, description="of their loss")
    augment: Augmentation = Field(STRONG, description="the strong changes; the weak ones are those of `augment`")


class ArchitectureParams(Closed):
    """How a network is trained. `Params` of an architecture adds its own arguments, and may change a default."""

    epochs: int = Field(30, ge=1, description="passes over the training rows; the schedule spans them")
    batch_rows: int = Field(256, ge=1, description="rows of one step")
    accumulate: int = Field(
        1,
        ge=1,
        description="parts that a batch is computed in: the same step with a fraction of the memory, but that a batch "
        "norm learns from one part at a time; simclr, which compares all rows of a batch, has no parts",
    )
    patience: int = Field(
        4, ge=1, description="epochs without a better validation score before it stops, from thaw_epoch on"
    )

    loss: Literal["cross_entropy", "focal", "mse", "mae", "huber", "pinball"] | None = Field(
        None, description="null: cross_entropy of classes, mse of numbers, pinball of a quantile"
    )
    focal_gamma: float = Field(2.0, ge=0, description="weight that focal takes from rows that are predicted well")
    huber_delta: Positive = Field(1.0, description="error in deviations of the label from which huber grows linearly")
    class_weights: Literal["balanced"] | dict[str, Positive] | None = Field(
        None, description="weight of each class in the loss; balanced: inverse to its frequency"
    )
    label_smoothing: Share = Field(0.0, description="share of the label that is spread evenly over all classes")

    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0, le=1000, description="the highest of the schedule")
    momentum: Share = Field(0.9, description="of sgd")
    nesterov: bool = Field(False, description="of sgd")
    weight_decay: float = Field(
        1e-2,
        ge=0,
        le=1000,
        description="of all weights, biases and norms included; decoupled from the gradient in adamw, L2 in the others",
    )
    clip_norm: Positive | None = Field(None, description="largest norm of a step's gradient")
    ema: Share = Field(0.0, description="decay of the moving average of the weights that predicts; 0: the last ones")

    schedule: Literal["constant", "step", "cosine", "one_cycle", "plateau"] = Field(
        "cosine", description="of the learning rate over `epochs`"
    )
    step_epochs: int = Field(10, ge=1, description="step: epochs after which the rate is multiplied by decay")
    decay: float = Field(0.1, gt=0, lt=1, description="step, plateau: factor of the learning rate")
    plateau_epochs: int = Field(2, ge=1, description="plateau: epochs without a lower training loss")
    warmup_epochs: float = Field(
        0.0,
        ge=0,
        description="epochs in which the rate grows linearly from 0; none in one_cycle, which grows by itself",
    )

    freeze: list[str] = Field(
        [], description="parts that are not trained: `body` is all but the head, others are modules by their path"
    )
    thaw_epoch: int | None = Field(None, ge=1, description="complete epochs after which frozen parts are trained too")
    head_learning_rate: Positive | None = Field(None, description="of the last layer; null: learning_rate")
    layer_decay: float = Field(1.0, gt=0, le=1, description="factor of the learning rate from a layer to the one below")

    mixup: float = Field(0.0, ge=0, description="alpha of mixup of images, vectors and numbers; 0: none")
    augment: Augmentation = Field(Augmentation(), description="of images: crop, flip, rotate, noise")
    max_categories: int = Field(10_000, ge=1, description="the rarer ones of a feature count as missing")

    fixmatch: FixMatch | None = Field(None, description="images: use rows without a label; null: not at all")
    pretrain: Pretraining | None = Field(None, description="without labels, on all rows; null: not at all")

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if there is one")
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    processes: int = Field(1, ge=1, le=64, description="that share the rows of each batch, on the CPU")
    threads: int = Field(1, ge=1, le=64, description="on the CPU; the last bits of the model depend on it")

    def regularisers(self) -> dict[str, float]:
        """The arguments that regularise, with their values."""
        return {name: value for name in ("dropout", "weight_decay") if (value := getattr(self, name, None)) is not None}

    def of_architecture(self) -> str:
        """The arguments of the architecture alone, as params.yaml has them."""
        own = self.model_dump(exclude={*ArchitectureParams.model_fields})
        return ", ".join(f"{name}: {value}" for name, value in own.items())

    @property
    def frozen_parts(self) -> list[str]:
        """The parts that are not trained with labels before `thaw_epoch`."""
        is_probe = self.pretrain is not None and self.pretrain.then == "linear_probe"
        return [*self.freeze, *(["body"] if is_probe else [])]

    @property
    def treats_layers_differently(self) -> bool:
        return bool(self.frozen_parts) or self.head_learning_rate is not None or self.layer_decay < 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("nesterov needs optimizer: sgd and a momentum above 0")
        if self.thaw_epoch is not None and not self.frozen_parts:
            raise ValueError("thaw_epoch needs freeze, the parts to thaw, or pretrain.then: linear_probe")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be below epochs, which is {self.epochs}")
        return self


def checked(cls: type[P], kind: str, params: Mapping[str, object], where: str) -> P:
    """The arguments of a learner.

    Args:
        where: the address of the learner in the params, for errors.

    Raises:
        UserError: one is unknown, and the error names the nearest valid name, or it has a wrong value.
    """
    try:
        return cls.model_validate(dict(params))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        loc = [str(part) for part in detail["loc"]]
        address = f"{where}.params{''.join(f'.{part}' for part in loc)}"
        if detail["type"] == "extra_forbidden":
            near = nearest(loc[-1], _group(cls, loc[:-1]).model_fields)
            raise UserError(f"learner {kind!r} has no argument {'.'.join(loc)!r}{near} ({address})") from None
        message = detail["msg"].removeprefix("Value error, ")
        value = f"; found {detail['input']!r}" if loc else ""
        raise UserError(f"learner {kind!r}: {message[0].lower()}{message[1:]}{value} ({address})") from None


def _group(cls: type[BaseModel], path: list[str]) -> type[BaseModel]:
    """The group of arguments at a path."""
    for name in path:
        kinds = (cls.model_fields[name].annotation, *get_args(cls.model_fields[name].annotation))
        cls = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
    return cls
