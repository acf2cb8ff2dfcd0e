"""How a flow ends before its last stage although nothing failed: in a state of its own, of the type Completed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from pydantic import JsonValue

from flows.progress_display import screen

P = ParamSpec("P")
R = TypeVar("R")


class EndsEarly(Exception):
    """There is no more to do for a run; the message says why."""

    def __init__(self, why: str, *, state: str, result: Mapping[str, JsonValue]) -> None:
        self.state, self.result = state, dict(result)
        super().__init__(why)


def may_end_early(flow: Callable[P, R]) -> Callable[P, R]:
    """Let a flow that raises `EndsEarly` end in that state, with its result, instead of failing."""

    @wraps(flow)
    def guarded(*arguments: P.args, **settings: P.kwargs) -> R:
        try:
            return flow(*arguments, **settings)
        except EndsEarly as ended:
            from prefect.states import Completed

            screen()(str(ended))
            return cast(R, Completed(name=ended.state, message=str(ended), data=ended.result))

    return guarded
