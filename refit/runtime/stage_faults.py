"""One-line errors for failures of a stage, or of DVC while it runs the stage."""

from __future__ import annotations

from pathlib import Path

from refit.errors import RefitError, chain, machine_fault, message_of, refused_by_the_system
from refit.runtime.dvc_files import kept_elsewhere


def own_error(error: Exception) -> RefitError | None:
    """The stage's own error, unwrapped from DVC's errors; None if there is none."""
    return next((cause for cause in chain(error, explicit=True) if isinstance(cause, RefitError)), None)


def fault(error: Exception, stage: str) -> RefitError:
    """One-line error for an unexpected failure of the stage."""
    *_, last = chain(error, explicit=True)
    if what := _refusal(error, last):
        return RefitError(f"stage {stage}: {what}")
    return RefitError(f"stage {stage} failed: {type(last).__name__}: {message_of(last)}")


def fault_of_dvc(error: Exception, stage: str) -> RefitError:
    """One-line error for a failure of DVC before or after the stage's own work.

    When DVC reads a damaged file, it raises any kind of error, and often does not name the file.
    """
    *_, last = all_causes = tuple(chain(error, explicit=True))
    if what := _refusal(error, last):
        return RefitError(f"stage {stage}: {what}")
    said = [message_of(each) for each in all_causes if type(each).__module__.startswith("dvc")]
    if type(last).__module__.startswith("dvc"):
        return RefitError(f"stage {stage}: DVC says: {said[-1]}")
    why = ": ".join([*said[-1:], f"{type(last).__name__}: {message_of(last)}"])
    return RefitError(
        f"stage {stage}: DVC cannot go on ({why}); is dvc.yaml, dvc.lock or .dvc/config damaged? Restore it; dvc.lock "
        "may be deleted, the next run writes it again"
    )


def _refusal(error: Exception, last: BaseException) -> str | None:
    """Message for what the system does not allow; None if the error has another cause."""
    if isinstance(last, FileNotFoundError) and last.filename:
        return f"{last.filename} does not exist; {_remedy(Path(str(last.filename)))}"
    if fault := machine_fault(error):
        return f"{fault}; what was finished is kept: mend that, then run again"
    return refused_by_the_system(last) if isinstance(last, OSError) else None


def _remedy(missing: Path) -> str:
    """What brings a missing dependency of a stage: a clone has only what git has."""
    return kept_elsewhere(missing) or (
        f"restore it. In a clone: `dvc add {missing.name}` and `dvc push` where it is, commit {missing.name}.dvc, then "
        "`dvc pull` here (Refit's docs/deploying.md); or take it out of dvc.yaml"
    )
