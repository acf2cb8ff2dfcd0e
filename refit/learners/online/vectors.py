"""Turns encoded rows into dense vectors of unit scale, with means and deviations that are learned row by row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refit.learners.contract import Floats
from refit.learners.encoding import Encoding
from refit.schemas.online_state import VectorState

FARTHEST = 5.0  # deviations from the mean; numbers beyond count as so far, so that one of them cannot upset a model


class Vectors:
    """Numbers in running standard deviations from the running mean, then a 0 or 1 for each category.

    A missing number becomes the mean, a missing category has no 1. Source of the running moments: Welford (1962), "Note
    on a method for calculating corrected sums of squares and products", Technometrics 4.
    """

    def __init__(self, encoding: Encoding) -> None:
        categorical = encoding.is_categorical
        self._numbers = np.flatnonzero(~categorical)
        self._columns = np.flatnonzero(categorical)
        sizes = [len(encoding.categories[name]) for name in encoding.features if name in encoding.categories]
        self._starts = len(self._numbers) + np.cumsum([0, *sizes])[:-1].astype(np.int64)
        self.width = len(self._numbers) + sum(sizes)
        self.count, self.mean, self.squares = (np.zeros(len(self._numbers)) for _ in range(3))

    def learn(self, row: Floats) -> None:
        """Move means and deviations by the numbers of a row, shape (columns,)."""
        numbers = row[self._numbers]
        there = ~np.isnan(numbers)
        distance = np.where(there, numbers - self.mean, 0.0)
        self.count += there
        self.mean += distance / np.maximum(self.count, 1.0)
        self.squares += np.where(there, distance * (numbers - self.mean), 0.0)

    def of(self, matrix: Floats) -> NDArray[np.float64]:
        """(rows, width) vectors of encoded rows."""
        vectors = np.zeros((len(matrix), self.width))
        numbers = matrix[:, self._numbers]
        deviation = np.sqrt(self.squares / np.maximum(self.count, 1.0))
        usable = (deviation > 0) & ~np.isnan(numbers)
        scaled = np.where(usable, numbers - self.mean, 0.0) / np.where(deviation > 0, deviation, 1.0)
        vectors[:, : len(self._numbers)] = np.clip(scaled, -FARTHEST, FARTHEST)
        codes = matrix[:, self._columns]
        rows, columns = np.nonzero(~np.isnan(codes))
        vectors[rows, self._starts[columns] + codes[rows, columns].astype(np.int64)] = 1.0
        return vectors

    def state(self) -> VectorState:
        count, mean, squares = (tuple(each.tolist()) for each in (self.count, self.mean, self.squares))
        return VectorState(count=count, mean=mean, squares=squares)

    def restore(self, state: VectorState) -> None:
        for name in VectorState.model_fields:
            values = np.asarray(getattr(state, name), dtype=np.float64)
            if values.shape != self.mean.shape:
                raise ValueError(f"{name} has {values.size} numbers, {self.mean.size} were expected")
            setattr(self, name, values)
