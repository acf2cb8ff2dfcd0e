"""Checks in a fresh process that a stored model loads, is the recorded one, and predicts what the gate saw."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refit.errors import RefitError, machine_fault
from refit.files.artifacts import check_manifest, sha256

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

MODEL = Path("data/candidate")  # where MLflow's pyfunc format puts the candidate's folder
GOLDEN = "golden.parquet"
BACKTEST = "backtest.parquet"
PREDICTION = "_prediction"
TIMEOUT_SECONDS = 600
NOT_CHECKED = 75  # exit status if the machine failed, so that the model was not checked
_KILLED = {-signal.SIGKILL: "SIGKILL, often for want of memory", -signal.SIGTERM: "SIGTERM", -signal.SIGINT: "SIGINT"}
PICKLES = {".bin", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}


def check_stored(folder: Path, manifest: str) -> None:
    """Check that every file of a stored model is the one that was registered.

    Args:
        manifest: sha256 of its `manifest.json`, as the registry recorded it.

    Raises:
        RefitError: a file differs or is not in a safe format; the message names it.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise RefitError(f"{path} is missing; the stored model is not one that Refit registered, or is incomplete")
    if (actual := sha256(path)) != manifest:
        raise RefitError(f"{path} differs from the registry's record: recorded {manifest[:12]}, found {actual[:12]}")
    check_manifest(folder)
    check_manifest(folder / MODEL)
    check_safe(folder)


def check_safe(folder: Path) -> None:
    """Check that no file of a model is in a format that can run code when it is read.

    Raises:
        RefitError: one is; the message names it.
    """
    if pickles := sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICKLES):
        raise RefitError(f"{pickles[0]} is no safe format: reading it could run anything; choose another learner")


def check_golden(folder: Path, tolerance: float, trusted_types: tuple[str, ...]) -> float:
    """The largest difference between the stored model's predictions on the golden rows and the recorded ones.

    Raises:
        RefitError: one is larger than `tolerance` (of numbers above 1, than this share of them), or the model does not
            load.
    """
    import numpy as np
    import pyarrow.parquet as pq

    predicted, recorded, shares = golden_differences(folder / MODEL, pq.read_table(folder / GOLDEN), trusted_types)
    is_same = (shares <= tolerance).all(axis=1)  # false for NaN too
    if not is_same.all():
        row = int(np.argmin(is_same))
        predicted_text, recorded_text = (
            " ".join(f"{value:.9g}" for value in np.atleast_1d(each[row])) for each in (predicted, recorded)
        )
        raise RefitError(
            f"golden row {row}: {predicted_text} predicted, {recorded_text} recorded; they may differ by "
            f"{tolerance * np.maximum(1.0, np.abs(recorded[row])).max():.3g} (register.golden_tolerance)"
        )
    return float(np.abs(predicted - recorded).max())


def golden_differences(
    model: Path, golden: pa.Table, trusted_types: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What a model predicts for golden rows, what is recorded of each, and (rows, outputs) how far the two differ.

    Of recorded numbers above 1 the difference is a share.

    Raises:
        RefitError: the model does not load, or predicts another number of outputs.
    """
    import numpy as np

    from refit import learners
    from refit.problems.contract import of_column

    recorded = of_column(golden.column(PREDICTION))
    predicted = learners.load(model, trusted_types=trusted_types).predict(golden.drop_columns([PREDICTION]))
    if predicted.shape != recorded.shape:
        raise RefitError(f"{model} predicts {predicted.shape} for golden rows of {recorded.shape}")
    shares = np.abs(predicted - recorded) / np.maximum(1.0, np.abs(recorded))
    return predicted, recorded, shares.reshape(len(recorded), -1)


def in_fresh_process(
    folder: Path, *, manifest: str, tolerance: float, trusted_types: Sequence[str], project: Path
) -> float:
    """Run this module on `folder` in a new interpreter. Returns the largest difference of a golden prediction.

    Raises:
        RefitError: the check failed, with its message; or the process died of the model.
        OSError: the machine failed, somebody killed the process, or it was too slow: the model was not checked.
    """
    command = [sys.executable, "-P", "-m", "refit.models.verification", str(folder)]
    command += ["--manifest", manifest, "--tolerance", repr(tolerance), "--project", str(project)]
    for name in trusted_types:
        command += ["--trusted", name]
    source = str(Path(__file__).resolve().parents[2])  # -P keeps a project's `tasks` folder from shadowing Refit's
    paths = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"loading it took more than {TIMEOUT_SECONDS} s") from None
    if done.returncode in _KILLED:
        raise OSError(f"its process was killed ({_KILLED[done.returncode]})")
    said = done.stderr.strip().splitlines() or [f"the process ended with status {done.returncode}"]
    if done.returncode == NOT_CHECKED:
        raise OSError(said[-1])
    if done.returncode:
        raise RefitError(said[-1])
    return float(json.loads(done.stdout.splitlines()[-1])["largest_difference"])


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -P -m refit.models.verification FOLDER --manifest SHA256 [--tolerance X] [--trusted TYPE ...]`."""
    parser = argparse.ArgumentParser(prog="python -P -m refit.models.verification", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    parser.add_argument("--trusted", action="append", default=[])
    parser.add_argument("--project", type=Path)
    given = parser.parse_args(arguments)
    if given.project:
        sys.path.append(str(given.project))  # last: the model may need a learner defined in the project
    try:
        check_stored(given.folder, given.manifest)
        largest = check_golden(given.folder, given.tolerance, tuple(given.trusted))
    except Exception as error:
        fault = machine_fault(error)
        if fault is None and not isinstance(error, RefitError):
            raise
        sys.stderr.write(f"{fault or error}\n")
        return NOT_CHECKED if fault else 1
    sys.stdout.write(json.dumps({"largest_difference": largest}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
