"""What a Keras model reads: each input by its name."""

from __future__ import annotations

from typing import Any

import torch

from refit.config import nearest
from refit.learners.networks.inputs import Inputs, Preparation

NUMBERS = "numbers"  # the input that holds all numbers of a row


class Shapes(dict[str, tuple[int, ...]]):
    """The shape of each input by its name, without the dimension of the rows.

    `numbers` are all numbers of the table, with mean 0 and deviation 1 and 0 where one is missing, followed by a 1 for
    each missing one. An image, vector or sequence is an input by the name of its feature, with mean 0 and deviation 1;
    a sequence ends in steps of 0. A category is an input of shape (1,): its code, 0 if it is missing or unknown.
    """

    def __init__(self, preparation: Preparation) -> None:
        inputs, encoding = preparation.shapes, preparation.encoding
        names = [name for name in encoding.features if name in encoding.categories]
        self.categories = dict(zip(names, inputs.cardinalities, strict=True))  # number of codes
        numbers = {NUMBERS: (inputs.numbers,)} if inputs.numbers else {}
        vectors = {name: (size,) for name, size in inputs.vectors.items()}
        super().__init__({**numbers, **dict.fromkeys(names, (1,)), **inputs.images, **inputs.sequences, **vectors})


class Feed:
    """Gives a model the rows in the structure in which it takes its inputs.

    Raises:
        ValueError: the model has an input that the rows do not have.
    """

    def __init__(self, keras: Any, model: Any, preparation: Preparation) -> None:
        self._keras, self._structure = keras, getattr(model, "input", model.inputs[0])  # a Sequential has no `input`
        self._scaling = preparation.scaling(torch.device("cpu"))
        shapes = Shapes(preparation)
        self._categories = tuple(shapes.categories)
        self._names = [each.name for each in model.inputs]
        if len(shapes) == len(self._names) == 1:  # whatever the name
            self._names = list(shapes)
        for name in self._names:
            if name not in shapes:
                raise ValueError(
                    f"the model has an input {name!r}, the rows have {', '.join(shapes)}{nearest(name, shapes)}"
                )

    def __call__(self, rows: Inputs) -> Any:
        """The arrays of some rows."""
        scaled = self._scaling(rows)
        tensors = {NUMBERS: scaled.numbers, **scaled.sequences, **scaled.vectors}
        tensors |= {name: codes[:, None] for name, codes in zip(self._categories, scaled.codes.T, strict=True)}
        tensors |= {name: pixels.permute(0, 2, 3, 1) for name, pixels in scaled.images.items()}
        arrays = [tensors[name].contiguous().numpy() for name in self._names]
        return self._keras.tree.pack_sequence_as(self._structure, arrays)
