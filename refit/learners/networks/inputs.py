"""Turns the rows of a table into the tensors that networks read, by means and categories of the training rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refit.config.column_types import ArrayColumn
from refit.errors import UserError
from refit.learners.contract import Spec
from refit.learners.encoding import Encoding
from refit.learners.networks.params import ArchitectureParams
from refit.learners.networks.tokens import Tokenizer
from refit.learners.texts import DenseTexts
from refit.storage.arrays import images, sequences, vectors

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["InputShapes", "Inputs", "Preparation"]

Doubles = NDArray[np.float64]
Moments = tuple[Doubles, Doubles]  # mean and deviation
MOST = 10.0  # deviations from the mean; a standardised number further away is moved there
ROUNDINGS = 4  # units in the last place by which computed values may differ that are meant to be equal
PIXELS = 1 << 22  # values of images in one piece, so that their squares need little memory


@dataclass(frozen=True)
class Inputs:
    """Rows as tensors; each tensor has one entry a row.

    Images lie in memory as (rows, height, width, channels), the order that convolutions on a CPU and tensor cores want.
    """

    codes: Tensor  # (rows, categories) int64, 0 for missing
    numbers: Tensor  # (rows, 2 x numbers) float32: standardised, 0 for missing; then 1 where it is missing
    images: Mapping[str, Tensor] = field(default_factory=dict)  # (rows, channels, height, width) uint8
    sequences: Mapping[str, Tensor] = field(default_factory=dict)  # (rows, steps, 2 x values) as numbers; padded with 0
    lengths: Mapping[str, Tensor] = field(default_factory=dict)  # (rows,) int64: steps of each sequence
    vectors: Mapping[str, Tensor] = field(default_factory=dict)  # (rows, values) float32, 0 where it is missing
    tokens: Tensor | None = None  # (rows, length) int64, 0 after the last one

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, index: Tensor | NDArray[np.int64] | slice) -> Inputs:
        """Some rows: a copy for an index, a view for a slice."""
        return self._each(lambda tensor: tensor[index])

    def joined(self, others: Inputs) -> Inputs:
        """These rows, then others of the same shapes."""

        def both(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: torch.cat([tensor, other[name]]) for name, tensor in one.items()}

        last = (0, 2, 3, 1)  # images as they lie in memory
        pixels = both(*({name: each.permute(last) for name, each in rows.images.items()} for rows in (self, others)))
        return Inputs(
            torch.cat([self.codes, others.codes]),
            torch.cat([self.numbers, others.numbers]),
            {name: each.permute(0, 3, 1, 2) for name, each in pixels.items()},
            both(self.sequences, others.sequences),
            both(self.lengths, others.lengths),
            both(self.vectors, others.vectors),
            None if self.tokens is None or others.tokens is None else torch.cat([self.tokens, others.tokens]),
        )

    def to(self, device: torch.device) -> Inputs:
        """The rows on a device; themselves if they are there."""
        return self if self.codes.device == device else self._each(lambda tensor: tensor.to(device))

    def tensors(self) -> list[Tensor]:
        """All tensors in a fixed order, each as it lies in memory."""
        return [tensor for _, tensor in sorted(self.named().items())]

    def named(self) -> dict[str, Tensor]:
        """All tensors by name; images in the order in which they lie in memory."""
        named = {"codes": self.codes, "numbers": self.numbers}
        named |= {f"images/{name}": image.permute(0, 2, 3, 1) for name, image in self.images.items()}
        for group in ("sequences", "lengths", "vectors"):
            named |= {f"{group}/{name}": tensor for name, tensor in getattr(self, group).items()}
        return named if self.tokens is None else named | {"tokens": self.tokens}

    @classmethod
    def from_named(cls, named: Mapping[str, Tensor]) -> Inputs:
        """The rows whose tensors `named` gave."""
        groups: dict[str, dict[str, Tensor]] = {"images": {}, "sequences": {}, "lengths": {}, "vectors": {}}
        for name, tensor in named.items():
            group, _, inner = name.partition("/")
            if inner:
                groups[group][inner] = tensor.permute(0, 3, 1, 2) if group == "images" else tensor
        return cls(named["codes"], named["numbers"], **groups, tokens=named.get("tokens"))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same change of every tensor; of images in the order in which they lie in memory."""
        pixels = {name: change(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for name, image in self.images.items()}
        groups = self.sequences, self.lengths, self.vectors
        sequences, lengths, vectors = ({name: change(tensor) for name, tensor in group.items()} for group in groups)
        tokens = None if self.tokens is None else change(self.tokens)
        return Inputs(change(self.codes), change(self.numbers), pixels, sequences, lengths, vectors, tokens)


@dataclass(frozen=True)
class InputShapes:
    """What an architecture needs to know of its inputs."""

    cardinalities: tuple[int, ...] = ()  # codes of each category, 0 for missing included
    numbers: int = 0  # columns of `Inputs.numbers`
    images: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)  # height, width, channels
    sequences: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # most steps, columns of a step
    vectors: Mapping[str, int] = field(default_factory=dict)
    vocabulary: int = 0  # tokens, those for padding and unknown words included

    @property
    def flat(self) -> int:
        """The values of numbers, vectors and images of a row."""
        pixels = (height * width * channels for height, width, channels in self.images.values())
        return self.numbers + sum(self.vectors.values()) + sum(pixels)

    def only_image(self, kind: str, smallest: int = 1) -> tuple[str, tuple[int, int, int]]:
        """Name and shape of the one image.

        Raises:
            UserError: there is none or there are several, or it is smaller than `smallest` pixels on a side.
        """
        if len(self.images) != 1:
            names = ", ".join(map(repr, self.images)) or "no image"
            raise UserError(
                f"learner {kind!r} reads one image of each row, the features have {names}; leave the others out "
                "(featurize.exclude), or declare a column as image(height, width) in ingest.sources"
            )
        ((name, shape),) = self.images.items()
        if min(shape[:2]) < smallest:
            raise UserError(
                f"learner {kind!r} needs images of at least {smallest} x {smallest} pixels with these params, "
                f"{name!r} has {shape[0]} x {shape[1]}"
            )
        return name, shape

    def require_text(self, kind: str) -> None:
        """Raises UserError if there is no text."""
        if not self.vocabulary:
            raise UserError(
                f"learner {kind!r} reads texts, the features have none; name one under featurize.text, or choose "
                "another kind"
            )


@dataclass(frozen=True)
class ImageScaling:
    """Standardises the images of a batch on its device, so that rows are stored as bytes until they are used."""

    factors: Mapping[str, tuple[Tensor, Tensor]]  # of each image: scale and shift of a channel's bytes

    def __call__(self, batch: Inputs) -> Inputs:
        """The batch with images as float32, (pixel / 255 - mean) / deviation."""
        if not self.factors:
            return batch
        scaled = {
            name: batch.images[name].float().mul_(scale).add_(shift) for name, (scale, shift) in self.factors.items()
        }
        return replace(batch, images=scaled)


@dataclass(frozen=True)
class Preparation:
    """What was learned from the training rows in order to read others in the same way."""

    encoding: Encoding
    arrays: Mapping[str, ArrayColumn]
    numbers: Moments  # of the numbers of the encoding
    moments: Mapping[str, Moments]  # of the channels of an image (0 to 1), the values of a vector or of a step
    tokenizer: Tokenizer | None = None  # of networks that read texts; others read columns of `encoding.texts`

    @classmethod
    def learn(
        cls, spec: Spec, table: pa.Table, params: ArchitectureParams, tokenizer: Tokenizer | None = None
    ) -> Preparation:
        """The categories, means and deviations of a table's rows; without a tokenizer, texts become numbers too."""
        encoding = Encoding.learn(table, spec.coded, spec.categorical, params.max_categories)
        encoding = replace(encoding, texts=DenseTexts() if tokenizer else DenseTexts.learn(spec, table))
        matrix = encoding.matrix(table)
        moments = {name: _moments_of(table, name, array) for name, array in spec.arrays.items()}
        return cls(encoding, spec.arrays, mean_and_deviation(matrix[:, ~encoding.is_categorical]), moments, tokenizer)

    @classmethod
    def stored(
        cls, spec: Spec, encoding: Encoding, weights: dict[str, NDArray[Any]], tokenizer: Tokenizer | None = None
    ) -> Preparation:
        """Take what `to_arrays` gave out of the stored arrays of a learner."""
        numbers = weights.pop("numbers.mean"), weights.pop("numbers.std")
        moments = {name: (weights.pop(f"{name}:mean"), weights.pop(f"{name}:std")) for name in spec.arrays}
        return cls(encoding, spec.arrays, numbers, moments, tokenizer)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The means and deviations by name."""
        parts = {f"{name}:mean": mean for name, (mean, _) in self.moments.items()}
        parts |= {f"{name}:std": deviation for name, (_, deviation) in self.moments.items()}
        return {"numbers.mean": self.numbers[0], "numbers.std": self.numbers[1], **parts}

    @property
    def shapes(self) -> InputShapes:
        """What an architecture needs to know of the inputs."""
        categories = self.encoding.categories
        of_kind = {
            kind: {name: array.shape for name, array in self.arrays.items() if array.kind == kind}
            for kind in ("image", "sequence", "vector")
        }
        return InputShapes(
            cardinalities=tuple(len(categories[name]) + 1 for name in self.encoding.features if name in categories),
            numbers=2 * int((~self.encoding.is_categorical).sum()),
            images={name: (shape[0], shape[1], shape[2]) for name, shape in of_kind["image"].items()},
            sequences={name: (shape[0], 2 * shape[1]) for name, shape in of_kind["sequence"].items()},
            vectors={name: shape[0] for name, shape in of_kind["vector"].items()},
            vocabulary=0 if self.tokenizer is None else self.tokenizer.vocabulary,
        )

    def inputs(self, table: pa.Table) -> Inputs:
        """The rows of a table.

        Raises:
            UserError: a feature is missing or does not fit its declared type.
        """
        matrix, categorical = self.encoding.matrix(table), self.encoding.is_categorical
        codes = np.nan_to_num(matrix[:, categorical] + 1, nan=0.0).astype(np.int64)
        numbers = standardised(matrix[:, ~categorical], self.numbers)
        missing = np.isnan(numbers)
        both = np.concatenate([np.where(missing, 0.0, numbers), missing], axis=1)
        groups: dict[str, dict[str, Tensor]] = {"image": {}, "sequence": {}, "vector": {}, "lengths": {}}
        for name, array in self.arrays.items():
            if array.kind == "image":
                groups["image"][name] = _view(images(table, name, array)).permute(0, 3, 1, 2)
            elif array.kind == "vector":
                read = standardised(_finite(vectors(table, name, array)), self.moments[name])
                groups["vector"][name] = torch.from_numpy(np.nan_to_num(read, nan=0.0))
            else:
                steps, lengths = sequences(table, name, array)
                read = standardised(_finite(steps), self.moments[name])
                read[np.arange(read.shape[1]) >= lengths[:, None]] = 0.0
                absent = np.isnan(read)
                read = np.concatenate([np.where(absent, np.float32(0), read), absent], axis=2, dtype=np.float32)
                groups["sequence"][name] = torch.from_numpy(read)
                groups["lengths"][name] = torch.from_numpy(lengths)
        return Inputs(
            torch.from_numpy(codes),
            torch.from_numpy(both.astype(np.float32)),
            groups["image"],
            groups["sequence"],
            groups["lengths"],
            groups["vector"],
            None if self.tokenizer is None else torch.from_numpy(self.tokenizer.tokens(table)),
        )

    def scaling(self, device: torch.device) -> ImageScaling:
        """How images are standardised on a device."""
        factors = {}
        for name, array in self.arrays.items():
            if array.kind == "image":
                mean, deviation = self.moments[name]
                pair = (1 / (255 * deviation), -mean / deviation)
                scale, shift = (torch.tensor(each, dtype=torch.float32, device=device)[:, None, None] for each in pair)
                factors[name] = scale, shift
        return ImageScaling(factors)


def mean_and_deviation(numbers: NDArray[Any]) -> Moments:
    """Mean and deviation of each column over its non-missing values, as float64.

    The deviation is 1 if they vary by no more than the rounding of their type: the computed deviation of equal values
    is not 0, because their computed mean is not exactly their value.

    >>> mean_and_deviation(np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]]))[1].round(3).tolist()
    [1.0, 0.816]
    """
    rounding = ROUNDINGS * np.finfo(np.result_type(numbers, np.float32)).eps
    numbers = numbers.astype(np.float64, copy=False)
    there = ~np.isnan(numbers)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, numbers, 0.0).sum(axis=0) / count
    deviation = np.sqrt((np.where(there, numbers - mean, 0.0) ** 2).sum(axis=0) / count)
    low = np.min(numbers, axis=0, where=there, initial=np.inf)
    high = np.max(numbers, axis=0, where=there, initial=-np.inf)
    varies = high - low > rounding * np.maximum(np.abs(low), np.abs(high))
    return mean, np.where(varies & (deviation > 0), deviation, 1.0)


def standardised(numbers: NDArray[Any], moments: Moments) -> NDArray[Any]:
    """Numbers of mean 0 and deviation 1, within 10 deviations, in their own precision; NaN for missing."""
    mean, deviation = (each.astype(numbers.dtype) for each in moments)
    result: NDArray[Any] = np.clip((numbers - mean) / deviation, -MOST, MOST)
    return result


def _moments_of(table: pa.Table, name: str, array: ArrayColumn) -> Moments:
    if array.kind == "image":
        return _pixel_moments(images(table, name, array))
    if array.kind == "vector":
        return mean_and_deviation(_finite(vectors(table, name, array)))
    steps, lengths = sequences(table, name, array)
    there = np.arange(steps.shape[1]) < lengths[:, None]
    return mean_and_deviation(_finite(steps[there]))


def _finite(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """The numbers with NaN, which is missing, in place of infinite ones."""
    return np.where(np.isfinite(numbers), numbers, np.float32(np.nan))


def _pixel_moments(pixels: NDArray[np.uint8]) -> Moments:
    """Mean and deviation of each channel on a scale from 0 to 1, from sums of integers, which have no rounding."""
    total, squares = (np.zeros(pixels.shape[-1], np.uint64) for _ in range(2))
    rows = max(1, PIXELS // max(1, pixels[:1].size))
    for start in range(0, len(pixels), rows):
        part = pixels[start : start + rows].astype(np.uint32)
        total += part.sum(axis=(0, 1, 2), dtype=np.uint64)
        squares += (part * part).sum(axis=(0, 1, 2), dtype=np.uint64)
    count = max(1, pixels.size // max(1, pixels.shape[-1]))
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return mean / 255, np.where(deviation > 0, deviation / 255, 1.0)


def _view(array: NDArray[Any]) -> Tensor:
    """A tensor in the memory of an array, which is only read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
