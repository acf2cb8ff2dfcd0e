"""A small neural network for tables: embedded categories, standardised numbers and a multilayer perceptron."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import cos, pi
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from refit.config import nearest
from refit.errors import RefitError, UserError
from refit.files.artifacts import digest, write_manifest
from refit.learners import canonical, safe
from refit.learners.contract import (
    DESCRIPTION,
    CurvePoint,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
    check_labels,
    describe,
)
from refit.learners.encoding import Encoding
from refit.learners.texts import DenseTexts
from refit.problems import metric_named
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import EncodedLearner, ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa

WEIGHTS = "model.safetensors"
PREDICT_ROWS = 65_536  # per batch, so that memory does not grow with the table

Rows = tuple[Tensor, Tensor]  # codes (rows, categories) int64, numbers (rows, 2 x numbers) float32


class NetworkParams(BaseModel):
    """Arguments of kind `torch_tabular`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    hidden: list[Annotated[int, Field(ge=1)]] = Field([256, 128], min_length=1, description="units of each layer")
    dropout: float = Field(0.1, ge=0, lt=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    batch_rows: int = Field(4096, ge=1)
    max_epochs: int = Field(30, ge=1)
    patience: int = Field(4, ge=1, description="epochs without a better validation score before it stops")
    max_categories: int = Field(10_000, ge=1, description="the rarer ones of a feature count as missing")


@dataclass(frozen=True)
class Head:
    """The target type, loss and link function of a task."""

    target: torch.dtype
    loss: Callable[[Tensor, Tensor], Tensor]
    link: Callable[[Tensor], Tensor]  # from outputs to predictions


HEADS: dict[str, Head] = {
    "binary": Head(torch.float32, nn.functional.binary_cross_entropy_with_logits, torch.sigmoid),
    "multiclass": Head(torch.int64, nn.functional.cross_entropy, lambda outputs: torch.softmax(outputs, dim=1)),
    "regression": Head(torch.float32, nn.functional.mse_loss, lambda outputs: outputs),
}


class TabularNetwork(nn.Module):
    """Maps (rows, categories) codes and (rows, numbers) to (rows,) outputs, or (rows, outputs) if there are several."""

    def __init__(
        self, cardinalities: list[int], numbers: int, hidden: list[int], dropout: float, outputs: int = 1
    ) -> None:
        super().__init__()
        widths = [min(50, (count + 1) // 2) for count in cardinalities]
        self.embeddings = nn.ModuleList(
            nn.Embedding(count, width) for count, width in zip(cardinalities, widths, strict=True)
        )
        layers: list[nn.Module] = []
        width = sum(widths) + numbers
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(dropout)]
            width = units
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, codes: Tensor, numbers: Tensor) -> Tensor:
        embedded = [embedding(codes[:, index]) for index, embedding in enumerate(self.embeddings)]
        outputs: Tensor = self.layers(torch.cat([*embedded, numbers], dim=1))
        return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs


class TorchTabular:
    """Trains on CUDA if available; predicts on the CPU, so that predictions are the same on any machine."""

    declaration: ClassVar[Declaration] = Declaration(
        ("binary", "multiclass", "regression"), warm_start=True, safe_format="safetensors"
    )

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self.spec = spec
        self.threshold = 0.5
        self._params = _checked(spec.params, where)
        self._encoding = Encoding((), {})
        self._mean: NDArray[np.float64] = np.empty(0)
        self._std: NDArray[np.float64] = np.empty(0)
        self._scale = np.array([0.0, 1.0])  # of the label: the network is fitted to (label - scale[0]) / scale[1]
        self._network: TabularNetwork | None = None

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        check_labels(label, self.spec)
        limit = self._params.max_categories
        encoding = Encoding.learn(train, self.spec.coded, self.spec.categorical, limit)
        self._encoding = replace(encoding, texts=DenseTexts.learn(self.spec, train))
        matrix = self._encoding.matrix(train)
        self._mean, self._std = _mean_and_std(matrix[:, ~self._encoding.is_categorical])
        if self.spec.task == "regression":
            self._scale = np.concatenate(_mean_and_std(label[:, None]))
        rows = self._inputs(matrix)
        seen = None if validation is None else (self._inputs(self._encoding.matrix(validation[0])), validation[1])
        with _deterministic(self.spec.seed):
            self._network = self._new_network()
            curve = self._learn(self._network, rows, label, seen, iterations, progress)
        best = _best(curve, self.spec.metric)
        return FitReport(best or iterations or self._params.max_epochs, tuple(curve))

    def resume(
        self,
        before: Learner,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        assert isinstance(before, TorchTabular)
        check_labels(label, self.spec)
        self._encoding, self._mean, self._std = before._encoding, before._mean, before._std
        self._scale = before._scale
        rows = self._inputs(self._encoding.matrix(train))
        seen = None if validation is None else (self._inputs(self._encoding.matrix(validation[0])), validation[1])
        with _deterministic(self.spec.seed):
            self._network = copy.deepcopy(before._network)
            assert self._network is not None
            curve = self._learn(self._network, rows, label, seen, iterations, progress)
        best = _best(curve, self.spec.metric)
        return FitReport(best or iterations or self._params.max_epochs, tuple(curve))

    def _learn(
        self,
        network: TabularNetwork,
        rows: Rows,
        label: Labels,
        validation: tuple[Rows, Labels] | None,
        iterations: int | None,
        progress: Progress,
    ) -> list[CurvePoint]:
        """Train with AdamW (Loshchilov and Hutter 2019) on the loss of the task or quantile, in seeded batches.

        The learning rate follows half a cosine over `max_epochs`, however many epochs are run, so that the first n
        epochs of a refit equal those of the search.
        """
        params, seed = self._params, self.spec.seed
        device = torch.device(self.spec.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        network.to(device)
        codes, numbers = (part.to(device) for part in rows)
        head, (centre, scale) = HEADS[self.spec.task], self._scale
        loss = head.loss if self.spec.quantile is None else partial(_pinball, level=self.spec.quantile)
        target = torch.tensor((label - centre) / scale, dtype=head.target, device=device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay)
        order = torch.Generator().manual_seed(seed)
        curve: list[CurvePoint] = []
        weights = copy.deepcopy(network.state_dict())
        epochs = params.max_epochs if iterations is None else iterations
        for epoch in range(epochs):
            progress(f"fitting {self.spec.name}, epochs", epoch, epochs)
            for group in optimizer.param_groups:
                group["lr"] = params.learning_rate * (1 + cos(pi * epoch / params.max_epochs)) / 2
            network.train()
            for batch in torch.randperm(len(target), generator=order).to(device).split(params.batch_rows):  # type: ignore[no-untyped-call]
                optimizer.zero_grad(set_to_none=True)
                outputs = network(codes[batch], numbers[batch])
                loss(outputs, target[batch]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if validation is not None:
                curve.append(self._scored(network, epoch + 1, rows, label, validation))
                if (best := _best(curve, self.spec.metric)) == epoch + 1:
                    weights = copy.deepcopy(network.state_dict())
                elif epoch + 1 - best >= params.patience:
                    break
        if validation is not None:
            network.load_state_dict(weights)
        network.to("cpu").eval()
        return curve

    def _scored(
        self, network: TabularNetwork, epoch: int, rows: Rows, label: Labels, validation: tuple[Rows, Labels]
    ) -> CurvePoint:
        seen, seen_label = validation
        recent = slice(max(0, len(label) - len(seen_label)), None)  # as many rows as in validation, the newest
        training = self.spec.score(label[recent], self._predictions(network, (rows[0][recent], rows[1][recent])))
        return CurvePoint(epoch, training, self.spec.score(seen_label, self._predictions(network, seen)))

    def predict(self, table: pa.Table) -> Floats:
        if self._network is None:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        return self._predictions(self._network, self._inputs(self._encoding.matrix(table)))

    def _predictions(self, network: TabularNetwork, rows: Rows) -> Floats:
        """Predictions as float64, in the label's units."""
        centre, scale = self._scale.tolist()
        return np.asarray(centre + scale * _linked(network, rows, HEADS[self.spec.task].link))

    def _inputs(self, matrix: NDArray[np.float64]) -> Rows:
        """Codes from 1 with 0 for missing; numbers of mean 0 and deviation 1, with 0 and an indicator for missing."""
        categorical = self._encoding.is_categorical
        codes = np.nan_to_num(matrix[:, categorical] + 1, nan=0.0).astype(np.int64)
        numbers = (matrix[:, ~categorical] - self._mean) / self._std
        missing = np.isnan(numbers)
        both = np.concatenate([np.where(missing, 0.0, np.clip(numbers, -10, 10)), missing], axis=1)
        return torch.from_numpy(codes), torch.from_numpy(both.astype(np.float32))

    def _new_network(self) -> TabularNetwork:
        categories = self._encoding.categories
        cardinalities = [len(categories[name]) + 1 for name in self._encoding.features if name in categories]
        numbers = 2 * int((~self._encoding.is_categorical).sum())
        outputs = len(self.spec.classes) or 1
        return TabularNetwork(cardinalities, numbers, self._params.hidden, self._params.dropout, outputs)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        if self._network is None:
            raise RefitError(f"learner {self.spec.name!r} was asked for its weights before it was fitted")
        weights = {name: tensor.numpy() for name, tensor in self._network.state_dict().items()}
        scale = {"label.scale": self._scale} if self.spec.task == "regression" else {}
        return {**weights, "numbers.mean": self._mean, "numbers.std": self._std, **scale}

    def save(self, folder: Path) -> None:
        safe.save_arrays(self._arrays(), folder / WEIGHTS)
        self._texts.save(folder)
        libraries = {"torch": torch.__version__.split("+")[0]}
        own = EncodedLearner(categories=self._encoding.categories, weights=WEIGHTS, libraries=libraries)
        describe(self, own).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> TorchTabular:
        learner = cls(spec)
        learner.threshold = description.threshold
        learner._encoding = Encoding(
            spec.coded, description.own(EncodedLearner).categories, DenseTexts.load(folder, spec)
        )
        arrays = safe.load_arrays(folder / WEIGHTS)
        learner._mean, learner._std = arrays.pop("numbers.mean"), arrays.pop("numbers.std")
        learner._scale = arrays.pop("label.scale", learner._scale)
        learner._network = learner._new_network()
        learner._network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        learner._network.eval()
        return learner

    @property
    def _texts(self) -> DenseTexts:
        return self._encoding.texts or DenseTexts()

    def unsafe_reason(self) -> str | None:
        return self._texts.unsafe_reason(self.spec.trusted_types)

    def digest(self) -> str:
        categories = self._encoding.to_dict()
        parts = {"features": list(self.spec.features), "categories": categories, "threshold": self.threshold.hex()}
        return digest(
            {"kind": self.spec.kind, "model": canonical.digest(self._arrays()), **self._texts.digest(), **parts}
        )


def _pinball(outputs: Tensor, target: Tensor, level: float) -> Tensor:
    """The pinball loss, which the quantile of a level minimises (Koenker and Bassett 1978)."""
    left = target - outputs
    return torch.maximum(level * left, (level - 1) * left).mean()


def _linked(network: TabularNetwork, rows: Rows, link: Callable[[Tensor], Tensor]) -> Floats:
    """The network's outputs for some rows after the link function, computed in batches."""
    device = next(network.parameters()).device
    network.eval()
    with torch.no_grad(), _one_thread():
        parts = [
            link(network(codes.to(device), numbers.to(device)).double()).cpu()
            for codes, numbers in zip(rows[0].split(PREDICT_ROWS), rows[1].split(PREDICT_ROWS), strict=True)  # type: ignore[no-untyped-call]
        ]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)


def _best(curve: list[CurvePoint], metric: str) -> int:
    """The first iteration with the best validation score; 0 without a curve."""
    if not curve:
        return 0
    return max(curve, key=lambda point: (metric_named(metric).gain(point.validation, 0.0), -point.iteration)).iteration


def _mean_and_std(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each column over its non-missing values; the deviation is 1 if they do not vary."""
    there = ~np.isnan(numbers)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, numbers, 0.0).sum(axis=0) / count
    std = np.sqrt((np.where(there, numbers - mean, 0.0) ** 2).sum(axis=0) / count)
    return mean, np.where(std > 0, std, 1.0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run on one thread: on the CPU the order of sums depends on the number of threads, and so would the model."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Seed torch and use deterministic algorithms within the block; the process's own settings are restored."""
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # read when CUDA starts; without it cuBLAS is not deterministic
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(), _one_thread():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def _checked(params: Mapping[str, Any], where: str) -> NetworkParams:
    try:
        return NetworkParams.model_validate(dict(params))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            near = nearest(name, NetworkParams.model_fields)
            raise UserError(f"learner 'torch_tabular' has no argument {name!r}{near} ({where}.params.{name})") from None
        message = detail["msg"][0].lower() + detail["msg"][1:]
        raise UserError(
            f"learner 'torch_tabular': {message}; found {detail['input']!r} ({where}.params.{name})"
        ) from None
