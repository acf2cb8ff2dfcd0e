"""Two retrainings or eight promotions at once: one is promoted, and each of the others says who is the champion now.

Every process is a real one with an MLflow client of its own; registry, ledger and locks are real files. The versions
are made once, and registry and ledger put back before each trial.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import Database, postgresql_server  # noqa: F401

from refit import config
from refit.errors import RefitError
from refit.runtime.context import Context
from registry import versions
from registry.ledger import Ledger
from tasks import register

EIGHT = range(1, 9)
MANY = pytest.param(10, marks=pytest.mark.slow)


def at_once(functions: Sequence[Callable[[], Any]], folder: Path) -> list[tuple[int, str]]:
    """Call each function in a process of its own, all from the same moment; exit statuses and what was printed."""
    start, pids = multiprocessing.get_context("fork").Barrier(len(functions)), []
    for place, function in enumerate(functions):
        if not (pid := os.fork()):
            os._exit(_status(function, start, folder / f"said.{place}"))
        pids.append(pid)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return [(status, (folder / f"said.{place}").read_text()) for place, status in enumerate(statuses)]


def _status(function: Callable[[], Any], start: Any, said: Path) -> int:
    """What a process of its own would end with that calls `function`; what it prints goes to the file `said`."""
    sys.stdout = sys.stderr = said.open("w")
    try:
        start.wait(60)
        function()
    except SystemExit as error:
        return int(error.code or 0)
    except RefitError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stderr.flush()
    return 0


def refit(*arguments: str) -> None:
    """A command of `refit`, in this process."""
    from refit.cli.main import main

    sys.argv = ["refit", *arguments]
    main()


class Checkouts:
    """Eight checkouts of one project that share a registry; version 1 is champion.

    Each has a successor judged against it: that of checkout n is version n + 1, registered by a run that could not
    promote.
    """

    def __init__(self, folder: Path, kind: type, database: Database | None) -> None:
        self.folder, self.kind, self.database = folder, kind, database
        self.registry = {
            "tracking_uri": f"sqlite:///{folder / 'shared/mlflow.db'}",
            "ledger_uri": database.url if database else None,
        }

    def __getitem__(self, number: int) -> Any:
        found = self.kind(self.folder / f"checkout{number}")
        raw = found.context.params.model_dump(mode="json", by_alias=True)
        asked = config.parse(raw | {"registry": self.registry})
        object.__setattr__(found.context, "params", asked)
        return found

    def make(self) -> None:
        """The first champion, and the eight successors; in processes of their own, which alone open the database."""
        self[1].registered(0)
        for number in EIGHT:
            checkout = self[number]
            checkout.judged(number)
            register.run(checkout.without_leave())
            asked = checkout.context.params.model_dump(mode="json", by_alias=True)
            (checkout.folder / "params.yaml").write_text(yaml.safe_dump(asked))

    def reset(self) -> None:
        """Put registry and ledger back to where nobody but version 1 was promoted."""
        for left in (self.folder / "shared").glob("*.db*"):
            left.unlink()
        for spare in (self.folder / "spare").glob("*.db"):
            shutil.copy(spare, self.folder / "shared")
        if self.database:
            self.database.put_back()

    def keep(self) -> None:
        """Keep registry and ledger for `reset`."""
        shutil.copytree(self.folder / "shared", self.folder / "spare", ignore=shutil.ignore_patterns("mlartifacts"))
        if self.database:
            self.database.keep()

    def winner(self) -> str:
        """The champion, once aliases, ledger and pending moves are shown to agree on it."""
        first = self[1]
        now = str(first.aliases["champion"])
        moves = [line for line in first.told if line[0] != "refuse"]
        assert moves == [("promote", None, "1"), ("promote", "1", now)], first.told
        assert first.aliases["previous"] == "1"
        head = Ledger.of(first.store).examine().head
        assert versions.registered(first.store, "toy").tags == {"refit.anchor": "1", "refit.ledger": head}
        assert Ledger.of(first.store).pending("toy") is None
        return now

    def refusals(self) -> dict[str, str]:
        """Version -> the reason for which it was refused, each told once."""
        lines = [line for line in self[1].ledger if line.action == "refuse"]
        assert len({line.to_version for line in lines}) == len(lines)
        return {line.to_version: "; ".join(line.reasons) for line in lines}


@pytest.fixture(scope="module", params=["files", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest) -> Database | None:
    """The database of the ledger; None if it is a file next to the registry."""
    if request.param == "files":
        return None
    database = Database(request.getfixturevalue("postgresql_server"), "at_once")
    database.create()
    return database


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, database: Database | None) -> Path:
    return tmp_path_factory.mktemp("at_once")


@pytest.fixture
def checkouts(
    place: Path, database: Database | None, new_project: Callable[[str], Any], empty_registry: Path
) -> Checkouts:
    made = Checkouts(place, type(new_project("toy")), database)
    if not (place / "spare").is_dir():
        for module in ("mlflow.pyfunc", "skops.io", "sklearn.linear_model", "refit.cli.main", "refit.cli.running"):
            importlib.import_module(module)  # once here, so that no process has to
        (place / "shared").mkdir()
        shutil.copy(empty_registry, place / "shared")
        for number in EIGHT:
            (place / f"checkout{number}").mkdir()
        assert at_once([made.make], place) == [(0, "")]
        made.keep()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("trials", [1, MANY])
def test_of_eight_promotions_judged_against_one_champion_one_is_carried_out_and_seven_say_by_whom_they_were_beaten(
    checkouts: Checkouts, trials: int, request: pytest.FixtureRequest
) -> None:
    if trials < 50:
        request.getfixturevalue("same_process")  # seconds saved; the long variation asks a fresh process each time
    for _ in range(trials):
        checkouts.reset()
        ended = at_once([lambda n=n: register.run(checkouts[n].context) for n in EIGHT], checkouts.folder)
        assert [status for status, _ in ended] == [0] * 8, ended
        assert "Traceback" not in "".join(said for _, said in ended)
        now = checkouts.winner()
        beaten = f"it was judged against version 1, but version {now} is the champion now"
        assert checkouts.refusals() == {str(n + 1): beaten for n in EIGHT if str(n + 1) != now}
        for number in EIGHT:
            receipt = checkouts[number].receipt
            won = receipt["version"] == now
            assert receipt["version"] == str(number + 1)
            assert receipt["alias"] == ("champion" if won else "challenger")
            assert receipt["outcome"]["reasons"] == (["better than the baseline"] if won else [beaten])


@pytest.mark.slow
@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("trials", [1, MANY])
def test_of_eight_promotions_by_hand_in_eight_checkouts_one_succeeds_and_seven_name_the_champion(
    checkouts: Checkouts, trials: int
) -> None:
    for _ in range(trials):
        checkouts.reset()
        by_hand = [
            lambda n=n: refit("promote", str(n + 1), "--project", str(checkouts.folder / f"checkout{n}")) for n in EIGHT
        ]
        check_by_hand(checkouts, at_once(by_hand, checkouts.folder))


@pytest.mark.ci
@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("trials", [1, MANY])
@pytest.mark.parametrize("wait", ["0", pytest.param("60", marks=pytest.mark.slow)])
def test_of_eight_promotions_by_hand_in_one_checkout_one_succeeds_and_seven_say_why_not(
    checkouts: Checkouts, trials: int, wait: str
) -> None:
    project = str(checkouts.folder / "checkout1")
    for _ in range(trials):
        checkouts.reset()
        by_hand = [lambda n=n: refit("promote", str(n + 1), "--project", project, "--wait", wait) for n in EIGHT]
        ended = at_once(by_hand, checkouts.folder)
        if wait == "0":
            held = [said for status, said in ended if status == 1]
            assert all("checkout1/.refit/lock is held by " in said and said.count("\n") == 1 for said in held), held
            ended = [each for each in ended if each[0] != 1]
        check_by_hand(checkouts, ended)


def check_by_hand(checkouts: Checkouts, ended: Sequence[tuple[int, str]]) -> None:
    """One of the commands made its version champion; the others say in one line, and in the ledger, which one is."""
    now = checkouts.winner()
    assert [said.splitlines()[-1] for status, said in ended if status == 0] == [
        f"toy version {now} is champion in place of version 1"
    ], ended
    refused = [said for status, said in ended if status == 2]
    assert len(refused) == len(ended) - 1, ended
    assert all(said.startswith("error: version ") and said.count("\n") == 1 for said in refused), refused
    assert all(f"but version {now} is the champion now" in said for said in refused), refused
    assert len(checkouts.refusals()) == len(refused)


@pytest.mark.ci
@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("trials", [1, MANY])
def test_two_retrainings_at_once_leave_one_champion_and_the_other_says_so(checkouts: Checkouts, trials: int) -> None:
    def retrain(number: int, seed: int) -> None:
        checkout = checkouts[number]
        checkout.judged(seed)
        register.run(checkout.context)

    for trial in range(trials):
        checkouts.reset()
        ended = at_once([lambda n=n, seed=trial * 2 + n: retrain(n, 100 + seed) for n in (1, 2)], checkouts.folder)
        assert "Traceback" not in "".join(said for _, said in ended)
        now = checkouts.winner()
        beaten = checkouts.refusals()
        for number, (status, said) in zip((1, 2), ended, strict=True):
            if status == 0:
                told = checkouts[number].receipt
                assert (told["version"] == now) != (told["version"] in beaten)
            else:  # the other was promoted before this one was judged
                assert said == (
                    f"error: comparand.json names version 1, the registry version {now}; `refit run` writes it again\n"
                )
        assert [status for status, _ in ended].count(0) == 1 + len(beaten)


@pytest.mark.ci
@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("trials", [1, MANY])
def test_of_eight_answers_to_a_version_that_waits_for_approval_one_counts(checkouts: Checkouts, trials: int) -> None:
    def requiring(number: int) -> Context:
        context: Context = checkouts[number].context
        required = config.RegisterParams(approval="required", golden_rows=20)
        return replace(context, params=context.params.model_copy(update={"register_": required}))

    def answer(number: int) -> None:
        (register.approve if number % 2 else register.reject)(requiring(number), waiting, f"so says checkout {number}")

    for _ in range(trials):
        checkouts.reset()
        assert at_once([lambda: register.run(requiring(1))], checkouts.folder) == [(0, "")]
        waiting = [each.to_version for each in checkouts[1].ledger if each.action == "await"][-1]
        ended = at_once([lambda n=n: answer(n) for n in EIGHT], checkouts.folder)
        assert sorted(status for status, _ in ended) == [0, *[2] * 7], ended
        assert all(
            f"version {waiting} of toy does not wait for approval: " in said for status, said in ended if status
        ), ended
        (line,) = [each for each in checkouts[1].ledger if each.to_version == waiting and each.action != "await"]
        winner = 1 + [status for status, _ in ended].index(0)
        assert f"so says checkout {winner}" in line.reasons[0]
        assert line.action == ("promote" if winner % 2 else "refuse")
        assert checkouts[1].aliases["champion"] == (waiting if winner % 2 else "1")


@pytest.mark.slow
@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("trials", [1, MANY])
def test_a_rollback_at_the_time_of_two_retrainings_holds_and_every_move_leads_on_from_the_one_before(
    checkouts: Checkouts, trials: int
) -> None:
    def retrain(number: int, seed: int) -> None:
        checkout = checkouts[number]
        checkout.judged(seed)
        register.run(checkout.context)

    def roll_back() -> None:
        refit("rollback", "--to", "1", "--why", "it misjudges", "--project", str(checkouts.folder / "checkout2"))

    for trial in range(trials):
        checkouts.reset()
        assert at_once([lambda: register.run(checkouts[4].context)], checkouts.folder) == [(0, "")]
        ended = at_once(
            [roll_back, *(lambda n=n, s=trial * 2 + n: retrain(n, 200 + s) for n in (1, 3))], checkouts.folder
        )
        said = " ".join(" ".join(each.split()) for _, each in ended)
        assert "Traceback" not in said
        assert ended[0][0] == 0, ended
        assert all(
            status == 0 or "comparand.json names version" in each or "is the champion now" in each
            for status, each in ended[1:]
        ), ended
        first = checkouts[1]
        moves = [line for line in first.told if line[0] != "refuse"]
        assert all(after[1] == before[2] for before, after in pairwise(moves)), moves
        assert moves[-1][2] == first.aliases["champion"]
        (rolled_back,) = [place for place, move in enumerate(moves) if move[0] == "rollback"]
        undone = moves[rolled_back][1]
        assert moves[rolled_back][2] == "1"
        assert undone not in [move[2] for move in moves[rolled_back:]], "no run undoes what a person decided"
        assert Ledger.of(first.store).examine().problem is None
        assert Ledger.of(first.store).pending("toy") is None
