"""`refit init`: creates a project from the user's CSV or from a small generated one."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from flows.deployments import PREFECT_YAML, prefect_yaml
from flows.session import prepare
from refit.config import STAGES, parse, schema
from refit.errors import UserError
from refit.files.artifacts import FEATURE_MODELS, atomic
from refit.files.yaml_files import YamlTree, read_yaml
from refit.new_project import ci_files, leaks
from refit.new_project.column_names import unaccented
from refit.new_project.commented_params import commented
from refit.new_project.description import Description, describe, describe_rows, describe_task
from refit.new_project.example_rows import subscriptions
from refit.new_project.first_look import look
from refit.new_project.given_params import describe_completed, raw_paths
from refit.new_project.new_params import params_of
from refit.new_project.query_reading import Query
from refit.new_project.table_reading import Hints, TableReading, read_table
from refit.runtime import dvc_runner, provenance
from refit.runtime.stage_code import SECTIONS

IGNORED = ".refit/\nrun.yaml\ncomparand.json\nwarm_start.json\n/data/\n/models/\n/reports/\n/dvc_plots/\n"
EXAMPLE = "subscriptions.csv"
_OWN_DATA, _GENERATED = "/raw/\n", f"/raw/*\n!/raw/{EXAMPLE}\n"  # git is no place for what people have said and done
# All that a new project consists of; other files in its folder belong to the user.
_PROJECT_ENTRIES = (
    *("raw", "params.yaml", "dvc.yaml", str(PREFECT_YAML), ".gitignore", "README.md", ".dvc", ".dvcignore"),
    *("run.yaml", "data", "models", "reports", ".refit", schema.FILE),
    *(".github", ".gitlab-ci.yml", "infra"),
)


def create(
    folder: Path,
    *,
    csv: Path | None,
    parquet: Path | None = None,
    time: str | None,
    label: str | None,
    key: tuple[str, ...],
    horizons: tuple[int, ...] = (),
    hints: Hints = Hints(),  # noqa: B008 - frozen
    query: Query | None = None,
) -> Description:
    """Create a project in `folder` whose first run succeeds, and describe it; leave nothing behind if it would not.

    If the folder holds a params.yaml and no dvc.yaml, it becomes the project of these params, as they are.

    Args:
        horizons: the steps ahead to forecast the label; `key` then names the columns that identify a series.
        query: what the rows of `parquet` are of, which then becomes the source.

    Raises:
        UserError: the folder holds a project already, a role is ambiguous, or a first run would refuse the table.
    """
    own = _own_table(csv, parquet, hints)
    if own is None and (folder / "params.yaml").is_file() and not os.path.lexists(folder / "dvc.yaml"):
        given = "--timezone" if hints.zone != Hints.zone else _first_option(time, label, key, horizons, hints)
        return _complete(folder, given)
    for name in ("params.yaml", "dvc.yaml", PREFECT_YAML):
        if os.path.lexists(folder / name):
            raise UserError(f"{folder} holds a project already ({name}); name another folder, or edit that file")
    if own is None and (option := _first_option(time, label, key, horizons, hints)):
        raise UserError(f"{option} describes a table of your own: name its file by --csv, or leave {option} out")
    if own is not None:
        is_parquet, table = own is parquet, own.name
        reading = read_table(
            own, is_parquet=is_parquet, key=key, time=time, label=label, horizons=horizons, hints=hints
        )
    else:
        table = EXAMPLE
    _require_room(folder, table, own)
    had_raw = (folder / "raw").is_dir()
    with _all_or_nothing(folder):
        if query is None:
            with atomic(folder / "raw" / table) as scratch:
                if own is not None:
                    shutil.copyfile(own, scratch)
                else:
                    scratch.write_text("\n".join(subscriptions()) + "\n")
        if own is None:
            zone = Hints(zone=hints.zone)
            reading = read_table(
                folder / "raw" / table, key=("subscription",), time="renewal", label="churned", hints=zone
            )
        name = _project_name(folder)
        before = _project_entries(folder)
        params = params_of(name, reading)
        seen = look(folder, query.source_of(params) if query else params, table)
        # Delete what `look` created: `raw/` may change before the first run, as in any project.
        _delete_new(folder, before | set((folder / "raw").rglob("*")))
        location = query.location if query else f"raw/{table}"
        params, excluded = leaks.without(seen.params, reading, seen.label_leaks)
        _write(folder / "params.yaml", commented(params, reading, excluded, generated=own is None))
        _write(folder / schema.FILE, schema.written())
        _write_stages(folder, raw_paths(parse(params)))
        _write(folder / PREFECT_YAML, prefect_yaml(name, params["project"]["timezone"]))
        top = provenance.repository(folder)
        ci_files.write(folder, scripts_only=top not in (None, folder.resolve()))
        if not (folder / "README.md").exists():
            _write(folder / "README.md", _readme(name, location, reading, generated=own is None))
        _write_gitignore(folder / ".gitignore", _OWN_DATA if own is not None else _GENERATED)
        dvc_runner.initialise(folder)
        prepare(folder)
        if query and not had_raw:
            (folder / "raw").rmdir()
    description = describe(folder, location, reading, seen, excluded)
    return description if top in (None, folder.resolve()) else description.with_note("CI", ci_files.note(top))


def _own_table(csv: Path | None, parquet: Path | None, hints: Hints) -> Path | None:
    """The user's file, if there is one.

    Raises:
        UserError: there are two, it is no file, or an option is given that only texts need.
    """
    if csv is not None and parquet is not None:
        raise UserError("--csv and --parquet are two tables; a project starts with one: leave one out")
    own = parquet if csv is None else csv
    if own is not None and (own.is_fifo() or own.is_socket()):
        raise UserError(f"{own} is a pipe or a socket; write its rows to a file, and name that")
    if parquet is not None and hints.encoding != Hints.encoding:
        raise UserError("--encoding is of texts, and Parquet says itself how it is written; leave --encoding out")
    return own


def _complete(folder: Path, option: str) -> Description:
    """Add to a folder with a params.yaml all else that a project consists of, and describe it.

    Raises:
        UserError: the params are wrong, or `option` is given, which says what they say.
    """
    if option:
        raise UserError(f"{option}: {folder / 'params.yaml'} is there and says so itself; leave {option} out")
    params, before = parse(read_yaml(folder / "params.yaml")), _project_entries(folder)
    try:
        _write_stages(folder, raw_paths(params), models=bool(params.featurize.models))
        if not os.path.lexists(folder / PREFECT_YAML):
            _write(folder / PREFECT_YAML, prefect_yaml(params.project.name, params.project.timezone))
        _write_gitignore(folder / ".gitignore")
        if schema.first_line() in (folder / "params.yaml").read_text(encoding="utf-8"):
            _write(folder / schema.FILE, schema.written())
        dvc_runner.initialise(folder)
        if not params.featurize.models:  # their champions may come later: the first run looks for them
            prepare(folder)
    except BaseException:
        _delete_new(folder, before)
        raise
    return describe_completed(folder, params)


def _write_stages(folder: Path, raw: tuple[str, ...], *, models: bool = False) -> None:
    stages = yaml.safe_dump({"stages": pipeline(raw, models=models)}, sort_keys=False, width=110)
    _write(folder / "dvc.yaml", _DVC_HEAD + stages)


def _first_option(
    time: str | None, label: str | None, key: tuple[str, ...], horizons: tuple[int, ...], hints: Hints
) -> str:
    """The first given option that means nothing without a table of the user's; empty if there is none."""
    given = {
        "--time": time,
        "--label": label,
        "--key": key,
        "--horizons": horizons,
        "--time-format": hints.time_formats,
        "--positive": hints.positive,
        "--split": hints.split,
        "--missing": hints.missing,
        "--encoding": hints.encoding != Hints.encoding,
    }
    return next((option for option, value in given.items() if value), "")


def _require_room(folder: Path, table: str, csv: Path | None) -> None:
    """Refuse a folder with files that the project, or its first run, would replace.

    Raises:
        UserError: there are some.
    """
    raw = folder / "raw" / table
    if os.path.lexists(raw) and not (csv and raw.is_file() and filecmp.cmp(raw, csv, shallow=False)):
        raise UserError(f"{raw} is there already, with other content; move it away, or name another folder")
    for stage in pipeline(("raw",)).values():
        for out in (*stage["outs"], *stage.get("metrics", ()), *stage.get("plots", ())):
            if os.path.lexists(folder / (name := next(iter(out)) if isinstance(out, dict) else out)):
                raise UserError(
                    f"{folder} holds {name}, which a run would replace; move it away, or name another folder"
                )


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    """Create `folder`; if the block fails, delete what was put into it.

    Raises:
        UserError: it cannot be created.
    """
    before = _project_entries(folder) if folder.is_dir() else None
    try:
        (folder / "raw").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}; name a folder that you may write to") from None
    try:
        yield
    except BaseException:
        if before is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _delete_new(folder, before)
        raise


def _project_entries(folder: Path) -> set[Path]:
    """Return the files and folders of a new project that exist in a folder."""
    tops = [folder / name for name in _PROJECT_ENTRIES]
    return {entry for top in tops if os.path.lexists(top) for entry in (top, *top.rglob("*"))}


def _delete_new(folder: Path, before: Set[Path]) -> None:
    """Delete the files and folders of a new project that were not in `folder` before."""
    for entry in sorted(_project_entries(folder) - before, reverse=True):  # the content of a folder before the folder
        with suppress(OSError):
            entry.rmdir() if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _write_gitignore(path: Path, data: str = "") -> None:
    """Add the outputs of runs, and the patterns of `data`, to a folder's `.gitignore`."""
    said = path.read_text(encoding="utf-8") if path.is_file() else ""
    if new := [line for line in (IGNORED + data).splitlines() if line not in said.splitlines()]:
        _write(path, "".join(f"{line}\n" for line in [*said.splitlines(), *new]))


_MOST_STEPS = 1000


def steps_ahead(horizons: str) -> tuple[int, ...]:
    """Parse horizons: numbers of steps, ranges, and ranges with a stride.

    Raises:
        UserError: the text has another form, or gives too many steps.

    >>> steps_ahead("7, 1,28"), steps_ahead("1-4,7"), steps_ahead("6-24:6")
    ((1, 7, 28), (1, 2, 3, 4, 7), (6, 12, 18, 24))
    """
    horizon_steps: set[int] = set()
    for part in horizons.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6})(?::(\d{1,6}))?)?", part.strip(), re.ASCII)
        first, last, every = (int(each) if each else None for each in match.groups()) if match else (None, None, None)
        steps = range(first, (last or first) + 1, every or 1) if first and every != 0 else range(0)
        if not steps or len(horizon_steps | set(steps)) > _MOST_STEPS:
            raise UserError(
                f"--horizons {horizons}: numbers of steps ahead were expected, such as 1,7,28, a range such as 1-48, "
                f"or 1-48:6 for every 6th of it, {_MOST_STEPS} at most"
            )
        horizon_steps |= set(steps)
    return tuple(sorted(horizon_steps))


_CANDIDATE = ("models/candidate", "models/training.json")


def pipeline(raw: tuple[str, ...], *, models: bool = False) -> YamlTree:
    """Return the six stages of `dvc.yaml`; code is a dependency by its digest in `run.yaml`, not by files.

    Args:
        models: whether models of other projects compute features (`featurize.models`).
    """
    deps: dict[str, list[str]] = {
        "ingest": list(raw),
        "validate": ["data/snapshot.json", "released.json"],
        "featurize": ["data/validated.json", *([str(FEATURE_MODELS)] if models else [])],
        "train": ["data/features", "warm_start.json"],
        "evaluate": ["data/validated.json", "data/features", *_CANDIDATE, "comparand.json"],
        "register": [*_CANDIDATE, "reports/decision.json", "reports/evaluation.json"],
    }
    outs: dict[str, list[Any]] = {
        "ingest": [{"data/batches": {"persist": True}}, "data/snapshot.json"],
        "validate": [
            *({path: {"persist": True}} for path in ("data/validation", "data/quarantine", "reports/data_docs")),
            "data/validated.json",
        ],
        "featurize": ["data/features"],
        "train": ["models/candidate", "models/training.json"],
        "evaluate": [
            f"reports/{name}"
            for name in ("evaluation.json", "decision.json", "model_card.html", "predictions.parquet", "plots")
        ],
        "register": [{"models/receipt.json": {"persist": True}}],
    }
    stages: YamlTree = {}
    for stage in STAGES:
        own = dict.fromkeys(f"overrides.{section.partition('.')[0]}" for section in SECTIONS[stage])
        run = [*{"ingest": ["as_of"], "featurize": ["task"]}.get(stage, []), f"code.{stage}", *own]
        stages[stage] = {
            "cmd": f"refit stage {stage}",
            "deps": deps[stage],
            "params": [*SECTIONS[stage], {"run.yaml": run}],
            "outs": outs[stage],
        }
    stages["evaluate"] |= {"metrics": ["reports/metrics.json"], "plots": ["reports/figures"]}
    return stages


def _project_name(folder: Path) -> str:
    name = unaccented(folder.resolve().name)
    letters = "".join(char if char.isalnum() and char.isascii() else "_" for char in name)
    return letters.strip("_") if letters.strip("_")[:1].isalpha() else f"p_{letters.strip('_')}".rstrip("_")


_DVC_HEAD = "# The six stages: `refit run` runs them inside DVC; `dvc repro` and `dvc exp run` run the same commands.\n"

_OF_RAW = {
    True: "`raw/` is not in git, apart from the generated table.",
    False: "`raw/` is not in git. `dvc add raw` keeps it in DVC, for CI and for workers on other machines.",
}


_MORE_FILES = "put the next file next to it in `raw/` and `refit run`."
_MORE_ROWS = "`refit run` reads the query again; with a `watermark` only what is new in it (Refit's docs/sources.md)."


def _readme(name: str, location: str, reading: TableReading, *, generated: bool) -> str:
    origin = "a generated table, only there to have something that runs" if generated else f"`{location}`"
    in_files = location.startswith("raw/")
    raw = f"\n- {_OF_RAW[generated]}" if in_files else ""
    return f"""# {name}

Predicts `{reading.label.name}` ({describe_task(reading)}) from {origin}.
Rows: {describe_rows(reading, location)}.

    refit run        # six stages, then a summary; again: unchanged
    refit show       # which version is champion, and why
    refit status     # what would run now
    refit ui         # MLflow and Prefect in the browser, until Ctrl-C
    git add -A && git commit -m "New project"    # `refit up` and `dvc exp` use committed code
    refit up         # by itself from now on: prefect.yaml says what and when; Ctrl-C ends it

- More data: {_MORE_FILES if in_files else _MORE_ROWS}{raw}
- Other learners, another gate: edit `params.yaml`; unknown keys are errors that name the nearest known one.
- `dvc repro`, `dvc exp run -S train.seed=1` and `dvc metrics show` work here too; they promote nothing.
"""


def _write(path: Path, text: str) -> None:
    with atomic(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
