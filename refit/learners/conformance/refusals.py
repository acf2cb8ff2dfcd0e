"""How rules check that a learner refuses what it cannot use: in one line that says what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refit.errors import RefitError, UserError, message_of
from refit.learners import Floats, Spec, load
from refit.learners.conformance.subject import Broken, Subject

if TYPE_CHECKING:
    import pyarrow as pa


def predicted_or_refused(subject: Subject, table: pa.Table, names: str | Sequence[str], what: str) -> Floats | None:
    """The predictions; None if they were refused with an error that names one of `names`.

    Raises:
        Broken: the error names none of them, or is not a UserError.
    """
    try:
        return subject.fitted.predict(table)
    except UserError as error:
        one_line(error, what)
        wanted = (names,) if isinstance(names, str) else names
        if not any(name in str(error) for name in wanted):
            raise Broken(f"{what} is refused without naming the feature: {error}") from None
        return None
    except Exception as error:
        outcome = f"{type(error).__name__}: {message_of(error, 100)}"
        raise Broken(f"{what} ends in {outcome}; raise UserError in words that name the feature") from None


def refused(act: Callable[[], object], what: str, words: Sequence[str]) -> None:
    """Check that a call raises a UserError that has one of the words.

    Raises:
        Broken: it does not.
    """
    try:
        act()
    except UserError as error:
        one_line(error, what)
        if not any(word in str(error) for word in words):
            raise Broken(f"{what} is refused without saying so ({' or '.join(words)}): {error}") from None
        return
    except Exception as error:
        outcome = f"{type(error).__name__}: {message_of(error, 100)}"
        raise Broken(f"{what} ends in {outcome}; raise UserError that says what was found") from None
    raise Broken(f"{what} is accepted; raise UserError that says what was found")


def one_line(error: Exception, what: str) -> None:
    if len(str(error).splitlines()) != 1:
        raise Broken(f"{what} is refused in {len(str(error).splitlines())} lines; an error is one line")


def not_loaded(folder: Path, spec: Spec, what: str) -> None:
    """Check that a stored model that was changed is refused.

    Raises:
        Broken: it is loaded.
    """
    try:
        load(folder, trusted_types=spec.trusted_types)
    except RefitError:
        return
    raise Broken(f"a stored model with {what} is loaded; every file belongs into the manifest")
