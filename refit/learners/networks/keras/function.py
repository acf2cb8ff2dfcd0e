"""The function in a file of the project that builds a Keras model, and the arguments in the params."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from refit.config import file_of, nearest
from refit.errors import UserError
from refit.learners.contract import Spec
from refit.learners.networks.keras.backend import Backend
from refit.learners.networks.params import Closed, checked


class KerasParams(Closed):
    """The arguments that are not those of the function; it gets them too if it has parameters of these names."""

    backend: Backend = "torch"
    epochs: int = Field(30, ge=1, description="passes over the training rows")
    batch_rows: int = Field(32, ge=1, description="rows of one step")
    patience: int = Field(4, ge=1, description="epochs without a better validation score before it stops")
    max_categories: int = Field(10_000, ge=1, description="the rarer ones of a feature count as missing")


def params_of(spec: Spec, where: str) -> KerasParams:
    """The arguments that are not those of the function alone.

    Raises:
        UserError: one has a wrong value.
    """
    own = {name: value for name, value in spec.params.items() if name in KerasParams.model_fields}
    return checked(KerasParams, spec.kind, own, where)


def bound(
    spec: Spec, objects: Mapping[str, object], params: KerasParams, where: str
) -> tuple[Callable[..., Any], dict[str, object]]:
    """The function that builds the model, and its arguments after the first two.

    Args:
        objects: what the file defines.

    Raises:
        UserError: the file has no such function, or an argument is unknown or missing.
    """
    name, ours = spec.kind.rpartition(":")[2], params.model_dump()
    function = objects.get(name)
    if not inspect.isfunction(function):
        near = nearest(name, [each for each, value in objects.items() if inspect.isfunction(value)])
        raise UserError(f"learner {spec.kind!r}: {file_of(spec.kind)} has no function {name}{near} ({where}.kind)")
    parameters = list(inspect.signature(function).parameters.values())
    if sum(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters) < 2:
        raise UserError(
            f"learner {spec.kind!r}: {name} takes too few arguments; it has to be {name}(shapes, outputs, ...), the "
            f"shapes of the inputs and the number of outputs ({where}.kind)"
        )
    named = {each.name: each for each in parameters[2:] if each.kind is not each.VAR_KEYWORD}
    given = {argument: value for argument, value in spec.params.items() if argument not in ours}
    takes_any = len(named) < len(parameters) - 2
    if not takes_any and (unknown := [argument for argument in given if argument not in named]):
        near = nearest(unknown[0], [*named, *ours])
        raise UserError(f"learner {spec.kind!r} has no argument {unknown[0]!r}{near} ({where}.params.{unknown[0]})")
    given |= {argument: value for argument, value in ours.items() if argument in named}
    if missing := [each for each, value in named.items() if value.default is value.empty and each not in given]:
        raise UserError(f"learner {spec.kind!r} needs the argument {missing[0]!r} ({where}.params.{missing[0]})")
    return function, given
