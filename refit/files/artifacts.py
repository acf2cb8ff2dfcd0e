"""The files that stages exchange: their paths and digests, written atomically and read only if unchanged."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refit.errors import RefitError, unreadable
from refit.files.deletion import is_inside, remove

BATCHES = Path("data/batches")  # rows as ingested, one Parquet file and one manifest for each batch of a source
SNAPSHOT = Path("data/snapshot.json")  # the batches that a run may use
VALIDATED = Path("data/validated.json")  # those that passed, with what became of each row
FEATURE_MODELS = Path("data/feature_models.json")  # champions of other projects that compute features
VALIDATION = Path("data/validation")  # the cached result of validating each batch
QUARANTINE = Path("data/quarantine")  # refused rows, each with its reason
RELEASED = Path("released.json")  # quarantined rows that people decided to accept
FEATURES = Path("data/features")  # all that `featurize` writes
TABLE = FEATURES / "table.parquet"  # the training table
FEATURE_SET = FEATURES / "features.json"  # its columns, windows, labels and definitions
PROFILE = FEATURES / "profile.json"  # how the counts of each column are laid out
PROFILE_COUNTS = FEATURES / "profile.parquet"  # counts of each column by day, which drift is measured from
MODELS_USED = FEATURES / "feature_models"  # copies of the models that computed features; then in the candidate's folder
CANDIDATE = Path("models/candidate")  # the fitted model
TRAINING = Path("models/training.json")  # how each learner fitted, and which one is the candidate
UNSEEN = "validation.parquet"  # in the candidate's folder, like the next
REFERENCE = "reference.parquet"
COMPARAND = Path("comparand.json")  # the champion that a candidate is compared with
WARM_START = Path("warm_start.json")  # what the next training starts from
RECEIPT = Path("models/receipt.json")  # the version that a candidate was registered as
REPORTS = Path("reports")  # what people read
JUDGED_ROWS = REPORTS / "predictions.parquet"  # predictions for the test rows
NAIVE_COLUMN = "naive: "  # begins the names of columns of the training table that hold naive forecasts
JUDGED = ("event_time", "label", "candidate", "baseline", "champion", "low", "high")  # columns other than the key
EVALUATION = REPORTS / "evaluation.json"  # how candidate, champion and baseline did
METRICS = REPORTS / "metrics.json"  # the same for `dvc metrics show`
DECISION = REPORTS / "decision.json"  # what the gate decided, and why
MODEL_CARD = REPORTS / "model_card.html"  # the report of a run
DATA_DOCS = REPORTS / "data_docs"  # Great Expectations' pages of the validated batches
STATE = Path(".refit")  # the project's own registry, ledger and locks; not in git
CHECKPOINTS = STATE / "checkpoints"  # of a training that is under way or was killed
PREDICTIONS = Path("data/predictions")  # the log of predictions
RUN = Path("run.yaml")  # what a run passes to its stages

SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class FileRef:
    """A file by relative path, digest and row count; stages pass it on in place of a data frame."""

    path: str
    sha256: str
    rows: int

    def resolve(self, root: Path) -> Path:
        """The file's path under `root`. A process computes the digest of a file again only if the file has changed.

        Raises:
            RefitError: the file is missing, or its digest is not the recorded one.
        """
        path = root / self.path
        if not path.is_file():
            raise RefitError(f"{self.path} is gone; `dvc checkout` brings it back from DVC's cache")
        if (actual := _cached_sha256(path)) != self.sha256:
            raise RefitError(
                f"{self.path} has changed: recorded {self.sha256[:12]}, found {actual[:12]}; delete it, `dvc checkout`"
            )
        return path


def is_settled(touched_ns: int) -> bool:
    """Whether a file that was last changed at `touched_ns` will have another time if it is changed again.

    The clock of a file system ticks slowly: two changes may have one time.
    """
    return time.time_ns() - touched_ns > SETTLED_NS


_digests: dict[Path, tuple[tuple[int, ...], str]] = {}  # of files that this process has read


def _cached_sha256(path: Path) -> str:
    path = path.absolute()
    state = path.stat()
    stamp = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    settled = is_settled(state.st_ctime_ns)
    cached = _digests.get(path)
    if cached is not None and cached[0] == stamp:
        return cached[1]
    actual = sha256(path)
    if settled:
        _digests[path] = (stamp, actual)
    return actual


def sha256(path: Path) -> str:
    """Hex digest of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex digest of a JSON-like value, whatever the order of its keys.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A scratch file next to `path` that replaces it if the block succeeds, and is removed if the block fails.

    Raises:
        RefitError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    except OSError as error:
        raise RefitError(
            f"cannot write {path}: {error.strerror}; give this user write access to {path.parent}"
        ) from None
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.chmod(0o600 if _is_private(path) else 0o644)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _is_private(path: Path) -> bool:
    whole = f"{path.absolute().as_posix()}/"
    return any(f"/{folder.as_posix()}/" in whole for folder in (STATE, PREDICTIONS))


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A scratch folder next to `path` that replaces it if the block succeeds, and is removed if the block fails.

    Scratch folders of killed runs are removed, so only one process may write `path` at a time.

    Raises:
        RefitError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.????????.partial"):
            remove(left)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    except OSError as error:
        raise RefitError(
            f"cannot write {path}: {error.strerror}; give this user write access to {path.parent}"
        ) from None
    try:
        yield scratch
        for file in scratch.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        scratch.chmod(0o700 if _is_private(path) else 0o755)
        if path.is_symlink():
            path.unlink()  # what it leads to stays
        if path.exists():  # a folder that holds files cannot be replaced in one step: for a moment there is none
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
            path.replace(old)
            scratch.replace(path)
            shutil.rmtree(old)
        else:
            scratch.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def scraps(project: Path) -> list[Path]:
    """The scratch files and folders of killed runs; unused while the caller holds the project's lock."""
    return [path for top in ("data", "models", "reports") for path in (project / top).rglob(".*.partial")]


def sweep(project: Path) -> list[Path]:
    """Remove the scratch files and folders of killed runs, and return them. The caller holds the project's lock.

    What a link places outside the project stays.
    """
    left = [path for path in scraps(project) if is_inside(project, path)]
    for path in left:
        with suppress(OSError):  # it is only clutter
            remove(path)
    return left


def defined(value: Any) -> Any:
    """Replace numbers that are not finite by None in a JSON-like value: a metric may be undefined for some labels.

    >>> defined({"mape": float("nan"), "folds": [0.5, float("inf")]})
    {'mape': None, 'folds': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {key: defined(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [defined(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically: sorted keys, UTF-8, no NaN."""
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with atomic(path) as scratch:
        scratch.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        RefitError: the file is missing or damaged; the message says what to do.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RefitError(f"{path} does not exist yet; `refit run` makes it") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, nested too deeply, a number of 5,000 digits
        raise RefitError(f"{path} is not valid JSON ({error}); delete it and run again") from None
    except OSError as error:
        raise RefitError(unreadable(path, error)) from None


def write_manifest(folder: Path) -> dict[str, str]:
    """Write the sha256 of every file in `folder` to its `manifest.json`, and return them."""
    files = {p.relative_to(folder).as_posix(): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    files.pop("manifest.json", None)
    write_json(folder / "manifest.json", files)
    return files


def check_manifest(folder: Path) -> Mapping[str, str]:
    """The manifest of `folder`, after checking that every file is the recorded one and none is missing or added.

    Raises:
        RefitError: a file differs; the message names the first one.
    """
    manifest: dict[str, str] = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict):
        raise RefitError(f"{folder / 'manifest.json'} holds no names and digests; restore the folder")
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"manifest.json"}
    if surplus := sorted(names - set(manifest)):
        raise RefitError(f"{folder / surplus[0]} is not in its manifest; refusing to read the folder")
    for name, recorded in manifest.items():
        if name not in names or sha256(folder / name) != recorded:
            raise RefitError(f"{folder / name} is missing or differs from its manifest; restore the folder")
    return manifest
