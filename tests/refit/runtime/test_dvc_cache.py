"""What the cache of DVC holds is whole, or is computed again."""

from __future__ import annotations

import hashlib
import itertools
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from quick import quick

from refit.runtime import dvc_runner
from tests.refit.runtime.test_dvc_runner import both, dvc, made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return made(tmp_path)


class TestCache:
    """What DVC's cache may lose: nothing that the present, a commit, or a lock file of a version that stays names."""

    @staticmethod
    def unused(project: Path, *locks: str) -> set[str]:
        """The content of each object that may go; of an entry of the run-cache, "run"."""
        with dvc_runner.cache(project) as cache:
            assert cache is not None
            found = cache.unused({f"version {number}": lock.encode() for number, lock in enumerate(locks)})
        return {"run" if "runs" in path.parts else path.read_text() for path in found}

    def test_what_an_earlier_run_made_may_go_and_what_the_present_one_made_may_not(self, project: Path) -> None:
        both(project, [])
        assert self.unused(project) == set()
        (project / "raw.txt").write_text("other rows")
        both(project, [])
        assert self.unused(project) == {"rows", "run"}

    def test_what_a_link_in_the_cache_leads_to_stays(
        self, project: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        both(project, [])
        (project / "raw.txt").write_text("other rows")
        both(project, [])
        objects = project / ".dvc/cache/files/md5"
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        for folder in list(objects.iterdir()):
            folder.rename(elsewhere / folder.name)
            folder.symlink_to(elsewhere / folder.name)
        assert self.unused(project) == {"run"}

    def test_what_the_lock_file_of_a_version_names_stays(self, project: Path) -> None:
        both(project, [])
        lock = (project / "dvc.lock").read_text()
        (project / "raw.txt").write_text("other rows")
        both(project, [])
        assert self.unused(project, lock) == set()

    def test_what_lies_in_a_folder_that_a_lock_file_names_stays(self, project: Path) -> None:
        pipeline = "stages: {train: {cmd: x, deps: [raw.txt], outs: [models]}}"
        (project / "dvc.yaml").write_text(pipeline)

        def fit() -> None:
            (project / "models").mkdir(exist_ok=True)
            (project / "models/a").write_text(f"model of {(project / 'raw.txt').read_text()}")

        dvc_runner.run_stage(project, "train", fit)
        lock = (project / "dvc.lock").read_text()
        (project / "raw.txt").write_text("other rows")
        dvc_runner.run_stage(project, "train", fit)
        assert "model of rows" in self.unused(project)
        assert self.unused(project, lock) == set()

    @pytest.mark.slow
    def test_what_a_commit_names_stays(self, project: Path) -> None:
        def git(*arguments: str) -> None:
            identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
            subprocess.run(["git", *identity, *arguments], cwd=project, check=True, capture_output=True)

        git("init")
        dvc_runner.repair(project)
        both(project, [])
        git("add", "dvc.lock", "dvc.yaml", "params.yaml", ".dvc/config")
        git("commit", "-m", "first")
        for rows in ("second", "third"):
            (project / "raw.txt").write_text(rows)
            both(project, [])
        assert self.unused(project) == {"second", "run"}

    def test_a_cache_outside_of_the_repository_is_called_shared(self, project: Path, tmp_path: Path) -> None:
        with dvc_runner.cache(project) as cache:
            assert cache is not None
            assert not cache.shared
        dvc(project, "cache", "dir", str(tmp_path.parent / "shared"))
        with dvc_runner.cache(project) as cache:
            assert cache is not None
            assert cache.shared


FOLDERS = """
stages:
  train:
    cmd: exit 1
    params: [params.yaml: [train.seed]]
    outs: [model.txt, candidate]
"""


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _rename_within(path: Path) -> None:
    path.write_text(path.read_text().replace("a.txt", "c.txt"))  # still a valid list of a folder's files


CONTENTS = {"model.txt": "model", "candidate/a.txt": "a", "candidate/sub/b.txt": "b"}
DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": _flip,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "another name within": _rename_within,
    "other text": lambda path: path.write_text("damaged"),
}
SHOWN = [("flipped", "candidate/a.txt", False), ("empty", "candidate", False), ("cut short", "model.txt", True)]


@pytest.mark.parametrize(
    ("damage", "which", "removed"),
    [
        pytest.param(
            *each, marks=[] if each in [*SHOWN, ("another name within", "candidate", False)] else pytest.mark.slow
        )
        for each in itertools.product(DAMAGES, [*CONTENTS, "candidate"], [False, True])
    ],
)
def test_a_damaged_object_of_the_cache_is_dropped_and_computed_again(
    project: Path, damage: str, which: str, removed: bool
) -> None:
    (project / "dvc.yaml").write_text(FOLDERS)
    said: list[str] = []

    def train() -> None:
        seed = (project / "params.yaml").read_text()
        for name, text in CONTENTS.items():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_text(text + seed)

    def run() -> str:
        return dvc_runner.run_stage(project, "train", train, say=said.append)

    def seeded(number: int) -> None:
        (project / "params.yaml").write_text(f"train: {{seed: {number}}}\n")

    def whole() -> bool:
        seed = (project / "params.yaml").read_text()
        found = {str(path.relative_to(project)) for path in (project / "candidate").rglob("*") if path.is_file()}
        right = all((project / name).read_text() == text + seed for name, text in CONTENTS.items())
        return right and found == set(CONTENTS) - {"model.txt"}

    assert run() == "executed"
    if not removed:
        seeded(1)
        assert run() == "executed"
        seeded(0)
    objects = [path for path in (project / ".dvc/cache/files/md5").rglob("*") if path.is_file()]
    text = CONTENTS.get(which, "") + "train: {seed: 0}\n"
    bad = next(
        path
        for path in objects
        if (path.name.endswith(".dir") if which == "candidate" else path.read_text() == text)
        and (which != "candidate" or removed or _is_of_seed_zero(project, path))
    )
    mode = bad.stat().st_mode
    bad.chmod(0o644)
    DAMAGES[damage](bad)
    bad.chmod(mode)
    if removed:
        shutil.rmtree(project / "candidate")
        (project / "model.txt").unlink()
    expected = "restored" if damage == "another name within" and which != "candidate" else "executed"
    assert run() == expected
    assert whole()
    assert len(said) == (expected == "executed")
    assert all("damaged" in line and "dropped; the stage runs again" in line for line in said)
    assert run() == "unchanged"
    shutil.rmtree(project / "candidate")
    assert run() == "restored"
    assert whole()


def _is_of_seed_zero(project: Path, folder: Path) -> bool:
    wanted = hashlib.md5(f"{CONTENTS['candidate/a.txt']}train: {{seed: 0}}\n".encode()).hexdigest()
    return wanted in folder.read_text()


@pytest.mark.parametrize(
    "torn", quick([b"\xff\x00torn", b"- [", b"", b"{}"], 0, 3), ids=["no text", "no YAML", "empty", "no entry"]
)
def test_a_torn_entry_of_the_run_cache_is_passed_over(project: Path, torn: bytes) -> None:
    calls: list[str] = []
    both(project, calls)
    for entry in (project / ".dvc/cache/runs").rglob("*"):
        if entry.is_file():
            entry.write_bytes(torn)
    (project / "dvc.lock").unlink()
    (project / "model.txt").unlink()
    assert both(project, calls)[1] == "executed"
    (project / "dvc.lock").unlink()
    (project / "model.txt").unlink()
    assert both(project, calls)[1] == "restored"


def test_a_copy_into_the_cache_that_a_full_disk_cuts_off_leaves_nothing_is_said_and_is_made_up_for(
    project: Path,
) -> None:
    (project / "dvc.yaml").write_text(FOLDERS)
    limits, said = resource.getrlimit(resource.RLIMIT_FSIZE), []

    def train() -> None:
        (project / "candidate").mkdir()
        (project / "candidate/a").write_bytes(b"a" * 3_000_000)
        (project / "model.txt").write_text("model")

    def train_on_a_full_disk() -> None:
        train()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))  # what follows is DVC's own

    try:
        dvc_runner.run_stage(project, "train", train_on_a_full_disk, say=said.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert said == ["train: its result could not be copied into DVC's cache (disk full?); it runs again next time"]
    assert [path for path in (project / ".dvc").rglob("*.tmp") if path.is_file()] == []
    assert dvc_runner.run_stage(project, "train", train) == "executed"
    assert dvc_runner.run_stage(project, "train", train) == "unchanged"
