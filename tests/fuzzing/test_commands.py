"""Whatever is done to a file of a project, a command ends with its result or one clear line, never a fault of Refit.

One damage of each file in CI, forty among the long tests. A seed makes each again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import yaml
from commands import refit
from fuzzing.mutations import damaged, damaged_json, damaged_yaml

Damage = Callable[[bytes, Random], bytes]


def damaged_owner(content: bytes, random: Random) -> bytes:
    """A lock file with a damaged owner; a lock that nobody holds is empty."""
    owner = {
        "pid": 1,
        "host": "here",
        "command": "refit run",
        "since": "2024-10-01T00:00:00+00:00",
        "trigger": "manual",
    }
    return damaged_json(content or json.dumps(owner).encode(), random)


MODEL = ".refit/mlartifacts/demo/*/artifacts/model"
COPY = ".refit/models/1-*"
# Each file, as a pattern, with what damages it and the commands that read it.
FILES: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "params.yaml": (damaged_yaml, ("status", "show", "quarantine list", "stage ingest", "doctor")),
    "dvc.yaml": (damaged_yaml, ("status", "gc", "doctor")),
    "dvc.lock": (damaged_yaml, ("status", "gc", "doctor")),
    ".dvcignore": (damaged, ("status", "gc")),
    ".dvc/config": (damaged, ("status", "gc", "doctor")),
    ".dvc/tmp/rwlock": (damaged_json, ("status",)),
    "table.csv.dvc": (damaged_yaml, ("status", "gc")),
    "run.yaml": (damaged_yaml, ("status", "stage ingest")),
    "released.json": (damaged_json, ("quarantine list", "stage validate", "status")),
    "comparand.json": (damaged_json, ("status", "stage evaluate")),
    "warm_start.json": (damaged_json, ("status", "stage train")),
    "prefect.yaml": (damaged_yaml, ("doctor", "status")),
    "raw/subscriptions.csv": (damaged, ("score {file}", "stage ingest")),
    "data/snapshot.json": (damaged_json, ("quarantine list", "stage validate", "drift")),
    "data/validated.json": (damaged_json, ("stage featurize", "quarantine list", "score 2024-10")),
    "data/batches/table/2024-05.json": (damaged_json, ("stage ingest", "stage validate", "drift")),
    "data/batches/table/2024-10.parquet": (damaged, ("stage featurize", "score 2024-10")),
    "data/validation/table/2024-05.json": (damaged_json, ("stage validate",)),
    "data/features/features.json": (damaged_json, ("stage train", "stage evaluate")),
    "data/features/table.parquet": (damaged, ("stage train", "stage evaluate")),
    "models/training.json": (damaged_json, ("stage register", "stage evaluate")),
    "models/candidate/model.json": (damaged_json, ("stage evaluate", "stage register")),
    "models/candidate/manifest.json": (damaged_json, ("stage evaluate", "stage register")),
    "models/receipt.json": (damaged_json, ("stage register", "show")),
    "reports/decision.json": (damaged_json, ("stage register", "show")),
    "reports/evaluation.json": (damaged_json, ("stage register",)),
    ".refit/ingest.json": (damaged_json, ("stage ingest",)),
    ".refit/lock": (damaged_owner, ("status",)),
    ".refit/ledger.db": (damaged, ("show", "history", "explain 1", "doctor")),
    ".refit/mlflow.db": (damaged, ("show", "lineage 1", "score 2024-10")),
    ".refit/versions/1.json": (damaged_json, ("show", "gc", "lineage 1")),
    f"{COPY}/manifest.json": (damaged_json, ("score 2024-10", "drift")),
    f"{COPY}/MLmodel": (damaged_yaml, ("score 2024-10",)),
    f"{MODEL}/manifest.json": (damaged_json, ("promote 1 --why x", "export 1 --to {folder}")),
    f"{MODEL}/provenance/provenance.json": (damaged_json, ("lineage 1", "explain 1", "gc")),
    f"{MODEL}/provenance/dvc.lock": (damaged_yaml, ("gc",)),
}
DVC_FILE = {"outs": [{"md5": "0" * 32, "size": 3, "hash": "md5", "path": "table.csv"}]}


@pytest.mark.slow
@pytest.mark.parametrize("pattern", list(FILES))
def test_commands_say_of_forty_damaged_files_what_is_wrong(
    project: Path, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, commands = FILES[pattern]
    (project / "table.csv.dvc").write_text(yaml.safe_dump(DVC_FILE))
    [path] = project.glob(pattern)
    whole = path.read_bytes()
    for seed in range(40):
        command = commands[seed % len(commands)].format(file=path, folder=project.parent / f"export-{seed}")
        path.write_bytes(damage(whole, Random(f"{pattern} {seed}")))
        status, printed = refit(capsys, *command.split(), "--project", str(project))
        context = f"seed {seed}: refit {command} of a damaged {pattern} ended with {status}: {printed}"
        assert status in (0, 1, 2), context
        assert "a fault of Refit" not in printed, context
        assert "Traceback" not in printed, context
        assert not re.search(r"stage \w+ failed: ", printed), context
        if status and command != "doctor":
            assert len(re.findall(r"^error: ", printed, re.MULTILINE)) == 1, context
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "place", "stage"),
    [("data/validated.json", "batches", "featurize"), ("reports/decision.json", "reasons", "register")],
)
def test_a_stage_names_its_input_that_was_changed_by_hand_so_that_it_cannot_go_on(
    project: Path, name: str, place: str, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((project / name).read_text())
    assert place in content
    (project / name).write_text(json.dumps({**content, place: 7}))
    status, printed = refit(capsys, "stage", stage, "--project", str(project))
    assert status == 1
    assert re.search(
        rf"error: .*{name} is damaged or was changed \(\w+: {place}: .*, found '7'\); `refit run` ", printed
    )


def test_a_fault_over_an_input_that_was_changed_by_hand_names_the_input(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unforeseen(context: object) -> None:
        raise TypeError("no reason")

    path = project / "reports/decision.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "notes": ["by hand"]}))
    monkeypatch.setattr("tasks.register.run", unforeseen)
    status, printed = refit(capsys, "stage", "register", "--project", str(project))
    assert status == 1
    assert "error: stage register cannot use reports/decision.json: modified: it is not as it was written (" in printed
    assert "`refit run` makes it again" in printed
