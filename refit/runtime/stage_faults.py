"""What went wrong in a stage, or in DVC around it, in one line."""

from __future__ import annotations

from collections.abc import Iterator

from refit.errors import RefitError, machine_fault, refused_by_the_system


def one_line_of(error: BaseException) -> str:
    """The words of an error without line ends."""
    return " ".join(str(error).split())


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, what that was raised from, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def own_error(error: Exception) -> RefitError | None:
    """The stage's own error out of DVC's wrapping."""
    return next((cause for cause in causes(error) if isinstance(cause, RefitError)), None)


def fault(error: Exception, stage: str) -> RefitError:
    """A fault of the stage that nobody foresaw, in one line."""
    *_, last = causes(error)
    if what := _refusal(error, last):
        return RefitError(f"stage {stage}: {what}")
    return RefitError(f"stage {stage} failed: {type(last).__name__}: {one_line_of(last)}")


def fault_of_dvc(error: Exception, stage: str) -> RefitError:
    """What DVC could not do before or after the stage's own work, in one line.

    It raises whatever its reading of a damaged file comes upon, and says only in some cases which file that is.
    """
    *_, last = all_causes = tuple(causes(error))
    if what := _refusal(error, last):
        return RefitError(f"stage {stage}: {what}")
    said = [one_line_of(each) for each in all_causes if type(each).__module__.startswith("dvc")]
    if type(last).__module__.startswith("dvc"):
        return RefitError(f"stage {stage}: DVC says: {said[-1]}")
    why = ": ".join([*said[-1:], f"{type(last).__name__}: {one_line_of(last)}"])
    return RefitError(
        f"stage {stage}: DVC cannot go on ({why}); is dvc.yaml, dvc.lock or .dvc/config damaged? Restore it; dvc.lock "
        "may be deleted, the next run writes it again"
    )


def _refusal(error: Exception, last: BaseException) -> str | None:
    """What the system does not allow, in words; None where the error is about something else."""
    if isinstance(last, FileNotFoundError) and last.filename:
        return f"{last.filename} does not exist; restore it, or take it out of dvc.yaml"
    if fault := machine_fault(error):
        return f"{fault}; what was finished is kept: mend that, then run again"
    return refused_by_the_system(last) if isinstance(last, OSError) else None
