"""The learner of every architecture: prepares rows, trains the network and predicts with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor, nn

from refit.errors import UserError
from refit.files.artifacts import digest, write_manifest
from refit.learners import canonical, safe
from refit.learners.contract import (
    DESCRIPTION,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Spec,
    check_labels,
    describe,
    stored_spec,
)
from refit.learners.encoding import Encoding
from refit.learners.networks import fixmatch, pretraining
from refit.learners.networks.architecture import Architecture, architecture, check_features
from refit.learners.networks.checkpoints import Checkpoint, identity
from refit.learners.networks.determinism import deterministic, threads
from refit.learners.networks.devices import (
    predicting_memory_errors,
    rows_at_once,
    training_device,
    training_memory_errors,
)
from refit.learners.networks.inputs import Inputs, InputShapes, Preparation
from refit.learners.networks.loop import Task, train
from refit.learners.networks.losses import LINKS, class_weights, loss_of
from refit.learners.networks.lr_find import range_test
from refit.learners.networks.params import ArchitectureParams, checked
from refit.learners.networks.prepared import TWIN_ROWS, FitInput, PreparedLearner, predict_alike
from refit.learners.networks.processes import Group, Job, group_of
from refit.learners.networks.scoring import best_epoch, finite, scoring
from refit.learners.networks.surroundings import surroundings
from refit.learners.networks.tokens import Tokenizer, TokenParams, require_same_length, tokenizers_library
from refit.learners.networks.transfer import differing, frozen_weights, head_of, take_over
from refit.learners.newest import newest_of
from refit.learners.texts import DenseTexts
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import EncodedLearner, ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa

WEIGHTS = "model.safetensors"


class Network(PreparedLearner):
    """Trains on CUDA if available; predicts on the CPU, so that predictions are the same on any machine."""

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        super().__init__(spec, where)
        self._architecture, self.params = self._read(where)
        self._network: nn.Module | None = None
        if isinstance(self.params, TokenParams):
            tokenizers_library(where)  # so that a missing library is an early error
        check_features(spec, self._architecture, self.params, where)
        pretraining.check(spec, self._architecture, self.params, where)
        fixmatch.check(spec, self.params, where)
        loss_of(self.params, spec, np.arange(max(2, len(spec.classes))), where)  # so that a mistake is an early error
        self.parent: Network | None = None  # of `spec.start`, by `refit.learners.networks.start`

    @property
    def declaration(self) -> Declaration:
        return Declaration(
            ("binary", "multiclass", "regression"),
            warm_start=True,
            sequences=True,
            images=True,
            unlabelled="needed" if self.params.fixmatch else "used" if self.params.pretrain else "ignored",
            safe_format="safetensors",
        )

    def _read(self, where: str) -> tuple[Architecture, ArchitectureParams]:
        """The architecture and its checked arguments."""
        chosen = architecture(self.spec.kind)
        return chosen, checked(chosen.Params, self.spec.kind, self.spec.params, where)

    def _fit(self, fit: FitInput) -> FitReport:
        self._learn_preparation(fit.rows, fit.label, fit.unlabelled)
        if self.parent is not None:
            self._twin(self.parent, fit.rows)  # an early error
        return self._learn(lambda: self._pretrained(self._first_network(), fit), fit)

    def _resume(self, before: Self, fit: FitInput) -> FitReport:
        require_same_length(before.params, self.params, before.shapes.vocabulary, self._where)
        self._read_as(before)
        self._scale, network = before._scale, self._twin(before, fit.rows)
        return self._learn(lambda: network, fit, goes_on=True)

    def _learn(self, start: Callable[[], nn.Module], fit: FitInput, *, goes_on: bool = False) -> FitReport:
        label, validation, iterations = fit.label, fit.validation, fit.iterations
        rows, target = self._prepared.inputs(fit.rows), self._target(label)
        unseen = None if validation is None else (self._prepared.inputs(validation[0]), validation[1])
        epochs, device = self.params.epochs if iterations is None else iterations, self._device()
        with deterministic(self.spec.seed, self.params.threads), self._memory_errors(device):
            network = start()
            trained, rows, unseen = self._part_to_train(network, rows, unseen, fit.progress)
            recent = newest_of(fit.rows, 0 if unseen is None else len(unseen[1]))
            task = replace(
                self._task(label, epochs, device, trained),
                score=None
                if unseen is None
                else scoring(
                    self.spec, self._predictions, (rows.take(recent), label[recent]), unseen, self._weights(label)
                ),
                best=partial(best_epoch, self.spec.stopping_metric),
                goes_on=goes_on,
                on_epoch=surroundings.get().on_epoch,
                judge=surroundings.get().judge,
                progress=fit.progress,
            )
            parts = [] if unseen is None else [*unseen[0].tensors(), torch.from_numpy(unseen[1])]
            task, rows, target, extra = self._with_unlabelled(task, rows, target, fit.unlabelled)
            parts += [target, *extra]
            checkpoint = self._checkpoint(task, (*trained.state_dict().values(), *rows.tensors(), *parts))
            spec = replace(self.spec, start=None)
            job = Job(type(self), spec, self._where, self._prepared, self._scale, label, epochs)
            with group_of(self.params.processes, job, surroundings.get().checkpoints) as group:
                curve = train(trained, rows, target, task, checkpoint, group)
            self._after_training(network)
        self._network = network
        best = best_epoch(self.spec.stopping_metric, curve) if curve else epochs
        return FitReport(best, curve, regularisers=self.params.regularisers())

    def take_part(self, rows: Inputs, group: Group) -> None:
        """Train as one of the other processes of a group."""
        job = group.job
        assert job is not None
        self._preparation, self._scale, device = job.preparation, job.scale, torch.device("cpu")
        with deterministic(self.spec.seed, self.params.threads), self._memory_errors(device):
            network = self.built(self.shapes)  # its weights are replaced by those of process 0
            task = self._task(job.label, job.epochs, device, network)
            train(network, rows, self._target(job.label), task, group=group)

    def _part_to_train(
        self, network: nn.Module, rows: Inputs, unseen: tuple[Inputs, Labels] | None, progress: Progress
    ) -> tuple[nn.Module, Inputs, tuple[Inputs, Labels] | None]:
        """What of a network is trained, with the training and validation rows as it reads them: all of it."""
        return network, rows, unseen

    def _after_training(self, network: nn.Module) -> None:
        """Make the network as it predicts and is stored."""

    def range_test(
        self, table: pa.Table, label: Labels, rates: Sequence[float], unlabelled: pa.Table | None = None
    ) -> tuple[float, ...]:
        """The loss of a new network, smoothed, in a training as by `fit` whose learning rate takes these values."""
        check_labels(label, self.spec)
        self._learn_preparation(table, label, unlabelled)
        device, fit = self._device(), FitInput(table, label, None, None, silent, unlabelled)
        with deterministic(self.spec.seed, self.params.threads), self._memory_errors(device):
            rows, target = self._prepared.inputs(table), self._target(label)
            first = self._pretrained(self._first_network(), fit)
            network, rows, _ = self._part_to_train(first, rows, None, silent)
            task = self._task(label, 1, device, network)
            task, rows, target, _ = self._with_unlabelled(task, rows, target, unlabelled)
            return range_test(network, rows, target, task, rates)

    def _with_unlabelled(
        self, task: Task, rows: Inputs, target: Tensor, unlabelled: pa.Table | None
    ) -> tuple[Task, Inputs, Tensor, list[Tensor]]:
        """The training, rows and targets with what FixMatch makes of rows without a label, and the tensors of these."""
        if not self.params.fixmatch or unlabelled is None or not len(unlabelled):
            return task, rows, target, []
        extra = self._prepared.inputs(unlabelled)
        task, index = fixmatch.applied(task, self.params.fixmatch, len(rows), extra)
        return task, rows.take(index), target[index], list(extra.tensors())

    def _pretrained(self, network: nn.Module, fit: FitInput) -> nn.Module:
        """The network after its pretraining on the rows with and without a label, if the params ask for one."""
        if self.params.pretrain is None:
            return network
        frozen_weights(network, self.params.frozen_parts, self.head(self.shapes), self._where)  # an early error
        rows, device = self._prepared.inputs(fit.rows), self._device()
        rows = rows if fit.unlabelled is None else rows.joined(self._prepared.inputs(fit.unlabelled))
        task = pretraining.pretask(self.spec, self.params, rows, device, self._prepared.scaling(device), fit.progress)
        with pretraining.trainee(network, self.head(self.shapes), self.shapes, self.params.pretrain) as trainee:
            checkpoint = self._checkpoint(task, (*trainee.state_dict().values(), *rows.tensors()))
            train(trainee, rows, torch.zeros(len(rows)), task, checkpoint)
        return network

    def _learn_preparation(self, table: pa.Table, label: Labels, unlabelled: pa.Table | None = None) -> None:
        if self.parent is not None:
            self._read_as(self.parent)
        else:
            if unlabelled is not None:
                import pyarrow as pa

                features = list(self.spec.features)
                table = pa.concat_tables([table.select(features), unlabelled.select(features)])
            self._preparation = Preparation.learn(self.spec, table, self.params, self._tokenizer(table))
        self._learn_scale(label)

    def _tokenizer(self, table: pa.Table) -> Tokenizer | None:
        """The tokenizer of networks that read texts as tokens; others read columns of numbers made of them."""
        if not isinstance(self.params, TokenParams) or not self.spec.text:
            return None
        return Tokenizer.learn(self.spec.text, table, self.params, self._where)

    def _target(self, label: Labels) -> Tensor:
        centre, scale = self._scale
        dtype = torch.int64 if self.spec.task == "multiclass" else torch.float32
        return torch.tensor((label - centre) / scale, dtype=dtype)

    def _task(self, label: Labels, epochs: int, device: torch.device, network: nn.Module) -> Task:
        """The training of these labels, as the params say."""
        loss = loss_of(self.params, self.spec, label, self._where)
        scaling = self._prepared.scaling(device)
        head = self._head_in(network) if self.params.treats_layers_differently else frozenset[str]()
        frozen = frozen_weights(network, self.params.frozen_parts, head, self._where)
        task = Task(self.spec.name, self.params, loss, epochs, self.spec.seed, device, scaling)
        return replace(task, head=head, frozen=frozen)

    def _weights(self, label: Labels) -> Floats | None:
        """(classes,) how much a row of each class counts in the loss; None if all count alike."""
        weights = class_weights(self.params, self.spec, label, self._where)
        return None if weights is None else weights.double().numpy()

    def _head_in(self, network: nn.Module) -> frozenset[str]:
        """The weights that learn at `head_learning_rate`."""
        return self.head(self.shapes)

    def _checkpoint(self, task: Task, parts: Iterable[Tensor]) -> Checkpoint | None:
        """The checkpoint of a fit of these rows that starts from these weights, if there is a folder for it."""
        around = surroundings.get()
        if around.checkpoints is None:
            return None
        described = {**stored_spec(self.spec), "source": self.spec.source}
        described |= {"epochs": task.epochs, "device": task.device.type, "task": task.name, "code": self._code()}
        name = identity(described, parts)
        return Checkpoint(around.checkpoints, name, task.name, around.every_seconds, task.progress)

    def _code(self) -> Mapping[str, object]:
        """Versions of what runs in a fit: one that was begun with others does not go on."""
        return self._libraries()

    def predict(self, table: pa.Table) -> Floats:
        network, rows = self._module, self._prepared.inputs(table)
        with threads(self.params.threads), predicting_memory_errors(self.spec, self.params, self._where):
            return self._predictions(network, rows)

    def _predictions(self, network: nn.Module, rows: Inputs) -> Floats:
        """Predictions as float64, in the label's units."""
        device = next(network.parameters()).device
        scaling, link = self._prepared.scaling(device), LINKS[self.spec.task]
        size = rows_at_once(self.params.batch_rows, self.params.accumulate)
        network.eval()
        with torch.no_grad():
            parts = [
                link(network(scaling(rows.take(slice(start, start + size)).to(device))).double()).cpu()
                for start in range(0, max(1, len(rows)), size)
            ]
        centre, scale = self._scale.tolist()
        return finite(np.asarray(centre + scale * torch.cat(parts).numpy(), np.float64), self.spec, self._where)

    def require_device(self) -> torch.device:
        """Where it trains; UserError if the params name a GPU and this machine has none (a fitted one predicts)."""
        return self._device()

    def _device(self) -> torch.device:
        return training_device(self.spec, self.params, self._where)

    def _memory_errors(self, device: torch.device) -> AbstractContextManager[None]:
        return training_memory_errors(self.spec, self.params, device, self._where)

    def _first_network(self) -> nn.Module:
        """The network before its first epoch: that of the parent, with a random head if the labels differ."""
        network = self.built(self.shapes)
        if self.parent is None:
            return network
        same = (self.spec.task, self.spec.classes) == (self.parent.spec.task, self.parent.spec.classes)
        return take_over(network, self.parent.weights(), frozenset() if same else self.head(self.shapes))

    def _twin(self, before: Network, table: pa.Table) -> nn.Module:
        """A network as these params build it, with all weights of another learner's.

        Raises:
            UserError: that is another architecture: its weights differ, or predict otherwise here (heads of attention
                have no weights of their own).
        """
        with torch.random.fork_rng():
            network = self.built(before.shapes, before._outputs)
        problem = differing(network, before.weights())
        if problem is None:
            network, rows = take_over(network, before.weights()), before._prepared.inputs(table.slice(0, TWIN_ROWS))
            with threads(self.params.threads):  # of a copy, for what an encoder itself has read before is remembered
                one, other = (before._predictions(each, rows) for each in (network, copy.deepcopy(before._module)))
            same = predict_alike(one, other, before._scale)
            problem = None if same else "the same weights predict something else"
        if problem is not None:
            raise UserError(
                f"learner {self.spec.name!r} cannot go on from a network of another architecture: {problem}; its "
                f"params are {before.params.of_architecture()} ({self._where}.params)"
            )
        return network

    def built(self, shapes: InputShapes, outputs: int | None = None) -> nn.Module:
        """A network of this architecture with random weights."""
        network = self._architecture.build(self.params, shapes, self._outputs if outputs is None else outputs)
        if shapes.images:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def head(self, shapes: InputShapes) -> frozenset[str]:
        """The weights that other labels could not use, for inputs of some shapes."""
        return head_of(partial(self.built, shapes), self._outputs)

    @property
    def shapes(self) -> InputShapes:
        return self._prepared.shapes

    def weights(self) -> dict[str, Tensor]:
        """The fitted weights by name."""
        return dict(self._module.state_dict())

    @property
    def _module(self) -> nn.Module:
        return self._after_fit(self._network)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        weights = {name: tensor.numpy() for name, tensor in self._module.state_dict().items()}
        scale = {"label.scale": self._scale} if self.spec.task == "regression" else {}
        return {**weights, **self._prepared.to_arrays(), **scale}

    def save(self, folder: Path) -> None:
        safe.save_arrays(self._arrays(), folder / WEIGHTS)
        self._texts.save(folder)
        if self._prepared.tokenizer:
            self._prepared.tokenizer.save(folder)
        own = EncodedLearner(
            categories=self._prepared.encoding.categories,
            weights=WEIGHTS,
            libraries={"torch": torch.__version__.split("+")[0], **self._libraries()},
            arguments=self._stored_arguments(),
        )
        describe(self, own).write(folder / DESCRIPTION)
        write_manifest(folder)

    def _libraries(self) -> dict[str, str]:
        names = ("safetensors", "tokenizers") if self._prepared.tokenizer else ("safetensors",)
        return {name: metadata.version(name) for name in names}

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Network:
        learner = cls(spec)
        learner.threshold = description.threshold
        own = description.own(EncodedLearner)
        if own.arguments:
            learner.params = checked(learner._architecture.Params, spec.kind, own.arguments, str(folder))
        tokenizer = learner._stored_tokenizer(folder)
        texts = DenseTexts() if tokenizer else DenseTexts.load(folder, spec)
        encoding = Encoding(spec.coded, own.categories, texts)
        arrays = safe.load_arrays(folder / WEIGHTS)
        learner._preparation = Preparation.stored(spec, encoding, arrays, tokenizer)
        learner._scale = arrays.pop("label.scale", learner._scale)
        learner._network = learner.built(learner.shapes)
        learner._network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        learner._network.eval()
        return learner

    def _stored_tokenizer(self, folder: Path) -> Tokenizer | None:
        if not isinstance(self.params, TokenParams) or not self.spec.text:
            return None
        return Tokenizer.load(folder, self.spec.text, self.params.length, str(folder))

    def _stored_arguments(self) -> dict[str, JsonValue]:
        """All arguments with their defaults, so that the model loads the same after a default has changed."""
        return self.params.model_dump(mode="json")

    def unsafe_reason(self) -> str | None:
        return self._texts.unsafe_reason(self.spec.trusted_types)

    def digest(self) -> str:
        categories = self._prepared.encoding.to_dict()
        parts = {"features": list(self.spec.features), "categories": categories, "threshold": self.threshold.hex()}
        if self._prepared.tokenizer:
            parts["tokenizer"] = self._prepared.tokenizer.to_json()
        return digest(
            {"kind": self.spec.kind, "model": canonical.digest(self._arrays()), **self._texts.digest(), **parts}
        )
