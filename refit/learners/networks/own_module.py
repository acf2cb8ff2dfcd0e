"""A user's own `nn.Module`, from a file of the project or an installed package, as an architecture."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from torch import Tensor, nn

from refit.config import file_of, nearest
from refit.errors import UserError
from refit.files.artifacts import digest, sha256
from refit.learners import project_files, safe
from refit.learners.contract import FitReport, Floats, Labels, Spec
from refit.learners.imports import find
from refit.learners.networks.architecture import Architecture
from refit.learners.networks.blocks import squeezed
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.network import Network
from refit.learners.networks.params import ArchitectureParams, checked
from refit.learners.networks.prepared import FitInput
from refit.learners.networks.tokens import TokenParams
from refit.schemas.model_description import ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa

    from refit.learners.networks.processes import Group

NEEDS = frozenset({"columns", "vector", "image", "sequence"})
RESERVED = ("numbers.mean", "numbers.std", "label.scale")  # stored next to the weights


@dataclass(frozen=True)
class OwnArchitecture:
    """A class that is built by `Class(shapes, outputs, **arguments)`, and whose `forward` takes `Inputs`."""

    kind: str
    cls: type[nn.Module]
    arguments: Mapping[str, object]

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(getattr(self.cls, "needs", NEEDS))

    @property
    def Params(self) -> type[ArchitectureParams]:
        return TokenParams if "text" in self.needs else ArchitectureParams

    def build(self, params: ArchitectureParams, inputs: InputShapes, outputs: int) -> nn.Module:
        network = self.cls(inputs, outputs, **self.arguments)
        for name in network.state_dict():
            if name in RESERVED:
                raise UserError(f"learner {self.kind!r}: weights cannot be called {name!r}; rename that attribute")
        network.register_forward_hook(partial(_checked_outputs, kind=self.kind, outputs=outputs))
        return network


class OwnNetwork(Network):
    """Trains and stores a user's module as any network, together with its code.

    Params of the training are taken from `params` by their names; the others are the class's own arguments. The class
    may have `needs`, the kinds of features that it reads: "columns", "vector", "image", "sequence", "text".
    """

    def _read(self, where: str) -> tuple[Architecture, ArchitectureParams]:
        cls: type[nn.Module] = find(self.spec.kind, where, self.spec.source)
        training = OwnArchitecture(self.spec.kind, cls, {}).Params
        own = {name: value for name, value in self.spec.params.items() if name not in training.model_fields}
        accepted = _arguments(cls)
        for name in own:
            if accepted is not None and name not in accepted:
                near = nearest(name, [*accepted, *training.model_fields])
                raise UserError(f"learner {self.spec.kind!r} has no argument {name!r}{near} ({where}.params.{name})")
        given = {name: value for name, value in self.spec.params.items() if name not in own}
        chosen = cast(Architecture, OwnArchitecture(self.spec.kind, cls, own))
        return chosen, checked(training, self.spec.kind, given, where)

    def _fit(self, fit: FitInput) -> FitReport:
        with project_files.user_errors(self.spec, "fit", of_file_alone=True):
            return super()._fit(fit)

    def _resume(self, before: Self, fit: FitInput) -> FitReport:
        with project_files.user_errors(self.spec, "fit", of_file_alone=True):
            return super()._resume(before, fit)

    def range_test(
        self, table: pa.Table, label: Labels, rates: Sequence[float], unlabelled: pa.Table | None = None
    ) -> tuple[float, ...]:
        with project_files.user_errors(self.spec, "fit", of_file_alone=True):
            return super().range_test(table, label, rates, unlabelled)

    def take_part(self, rows: Inputs, group: Group) -> None:
        with project_files.user_errors(self.spec, "fit", of_file_alone=True):
            super().take_part(rows, group)

    def predict(self, table: pa.Table) -> Floats:
        with project_files.user_errors(self.spec, "predict", of_file_alone=True):
            return super().predict(table)

    def _code(self) -> Mapping[str, object]:
        if file_of(self.spec.kind):  # whose text is a part of the spec
            return super()._code()
        module = find(self.spec.kind, self._where).__module__
        packages = {
            name: metadata.version(name) for name in metadata.packages_distributions().get(module.split(".")[0], ())
        }
        return {**super()._code(), **packages, "module": sha256(Path(inspect.getfile(sys.modules[module])))}

    def save(self, folder: Path) -> None:
        project_files.store_code(self.spec, folder)
        super().save(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Network:
        with safe.no_pickle():
            return super().load(folder, description, spec)

    def unsafe_reason(self) -> str | None:
        return project_files.unsafe_reason(self.spec) or super().unsafe_reason()

    def digest(self) -> str:
        code = hashlib.sha256(self.spec.source.encode()).hexdigest()
        return digest({"network": super().digest(), "arguments": dict(self.spec.params), "code": code})


def _checked_outputs(module: nn.Module, given: tuple[Inputs], result: Any, *, kind: str, outputs: int) -> Tensor:
    """The outputs as (rows, outputs), or (rows,) if there is one.

    Raises:
        UserError: they are no tensor of such a shape.
    """
    rows = len(given[0])
    shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
    if shape != (rows, outputs) and (outputs > 1 or shape != (rows,)):
        raise UserError(
            f"learner {kind!r}: forward gave {shape} for {rows} rows; {(rows, outputs)} was expected, (rows, outputs)"
        )
    return squeezed(result) if result.ndim == 2 else result


def _arguments(cls: type[nn.Module]) -> list[str] | None:
    """The names of a class's own arguments, after shapes and outputs; None if it takes any."""
    _, *parameters = inspect.signature(cls.__init__).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters[2:]]
