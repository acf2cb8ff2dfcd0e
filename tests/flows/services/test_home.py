"""The home page says what is so, leads to pages that open, and runs nothing that comes from data."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from flows.services import server_process
from flows.services.home import with_home
from flows.services.overview import last_run, overview
from flows.session import context_of
from refit.cli.inspection import print_history
from refit.files.artifacts import RECEIPT, TRAINING
from refit.reports import home_page, templates
from refit.reports.home_page import Card, Link, Overview, Tile
from refit.runtime import registry_store
from refit.schemas.receipt import Outcome, Receipt
from refit.schemas.training import Training
from refit.storage import drift_decisions
from registry import tracking
from registry.client import client
from registry.ledger import Entry
from tasks import register
from tests.refit.reports.test_drift_report import decision, stored

HOSTILE = "<script>alert('x')</script>"


def browser(project: Path) -> TestClient:
    """A client of the pages, in front of a stand-in for MLflow's own."""
    return TestClient(with_home(PlainTextResponse("MLflow"), project))


def pages_of(client: TestClient) -> dict[str, Any]:
    """Every page that the home page leads to on this server, and those that these lead to, by address."""
    waiting, answers = ["/refit/"], dict[str, Any]()
    while waiting:
        if (address := waiting.pop()) in answers:
            continue
        answers[address] = answer = client.get(address)
        if "data-docs/" not in address and "/card" not in address and "compare" not in address:
            for link in re.findall(r'href="([^"#][^"]*)"', answer.text):
                waiting.append(str(answer.url.join(unescape(link)).raw_path, "ascii"))
    return answers


def test_the_home_page_names_the_champion_and_each_of_its_links_opens(project: Path) -> None:
    pages = pages_of(browser(project))
    home = pages["/refit/"].text
    assert re.search(r"Version 1 \(\w+\) is champion since 20", home)
    assert "promoted" in home
    assert "not checked" in home, "of drift"
    trainings = unescape(home).split('">trainings</a>')[0].rpartition("searchFilter=")[2]
    every = unescape(home).split('">all runs</a>')[0].rpartition('href="')[2]
    assert every.endswith("/runs?workflowType=machine_learning&searchFilter="), "or MLflow keeps the trainings' filter"
    context = context_of(project)
    with registry_store.opened(context) as store:
        experiment = tracking.find_experiment(store, context.params.project.name)
        runs = client(store).search_runs([experiment], unquote(trainings))
    assert [run.data.tags["refit.role"] for run in runs] == ["candidate"], "without its learners"
    assert "Made when it is loaded" in home, "by `refit ui` or `refit up`"
    assert {address: page.status_code for address, page in pages.items() if page.status_code != 200} == {}
    wanted = {"/refit/card", "/refit/history", "/refit/versions/1/card", "/refit/data-docs/index.html"}
    assert wanted <= pages.keys()
    for address, page in pages.items():
        if address.startswith("/refit/"):
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;"), address
            assert ("sandbox" in policy) == (address not in ("/refit/", "/refit/history")), address
            assert not re.search(r"(src|href)=[\"'](https?:)?//", page.text), address


@pytest.mark.slow
def test_versions_are_compared_on_a_page_and_an_unknown_one_is_one_line(project: Path) -> None:
    client = browser(project)
    page = client.get("/refit/compare?first=1&second=1")
    assert page.status_code == 200
    assert "Version 1 and version 1" in page.text
    assert page.text.count("version 1 <small>champion</small>") == 2, "a champion is no challenger besides"
    unknown = client.get("/refit/compare", params={"first": "1", "second": HOSTILE})
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert unknown.headers["x-content-type-options"] == "nosniff"
    assert client.get("/refit/versions/9/card").status_code == 404


def test_times_are_those_of_the_projects_zone_as_on_the_cards(project: Path) -> None:
    """The zone is asked of params.yaml each time: the pages are rendered when they are loaded."""
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(re.sub(r"(?m)^  timezone: .*$", "  timezone: Pacific/Kiritimati", params))
    client, (entry,) = browser(project), register.history(context_of(project))
    there = templates.moment(entry.at, ZoneInfo("Pacific/Kiritimati"))
    assert there != templates.moment(entry.at)
    home = client.get("/refit/").text
    assert f"is champion since {there}" in home
    assert home.count(there) == 3, "headline, last decision, history"
    assert there in client.get("/refit/history").text
    pages = [client.get(f"/refit/{page}").text for page in ("", "history", "compare?first=1&second=1")]
    assert [page.count("imes are those of Pacific/Kiritimati.") for page in pages] == [1, 1, 1]
    assert [page for page in pages if "UTC" in page] == []


def test_the_drift_card_and_the_report_behind_it_are_of_the_decision_made_last_whatever_moment_it_is_about(
    project: Path,
) -> None:
    told = decision("warn") | {"blocked": ["no row has a label"], "reasons": ["held back: no row has a label"]}
    later = stored(told | {"as_of": "2026-11-30T00:00:00Z", "version": "1", "made_at": "2026-12-01T08:00:00Z"})
    earlier = stored(told | {"as_of": "2025-10-01T00:00:00Z", "made_at": "2026-12-01T09:00:00Z"})
    again = later.model_copy(update={"made_at": later.made_at + timedelta(hours=2)})
    client, context = browser(project), context_of(project)
    for made, others in ((later, ()), (earlier, (later,)), (again, (earlier,))):
        with registry_store.opened(context) as store:
            drift_decisions.store_decision(context, store, made)
        home, report = unescape(client.get("/refit/").text), client.get("/refit/drift").text
        card = home[home.index("<h2>Drift</h2>") :].partition("</section>")[0]
        moments = [templates.moment(each.as_of, context.params.project.zone) for each in (made, *others)]
        assert 'href="drift"' in card
        for page in (card, home.partition('class="cards"')[0], report.partition("</header>")[0]):
            assert [moment in page for moment in moments] == [True] + [False] * len(others)
        followed = ", which version 1 has followed" if made is earlier else ""
        assert f"of version {made.version}{followed}. Version {made.version} should be trained again" in card
        assert f"of version {made.version}{followed}, as of {moments[0]}" in home
        assert f'section class="card {"plain" if followed else "warn"}"><h2>Drift' in home
        assert card.lower().count("held back") == 1
    assert len(drift_decisions.read_all(context)) == 2, "made again, it is the same decision"


def test_a_decision_that_judged_nothing_is_not_marked_as_good_and_says_so_once(project: Path) -> None:
    told = decision("ok", windows=0) | {"reasons": ["nothing to judge yet: no window holds rows"], "version": "1"}
    context = context_of(project)
    with registry_store.opened(context) as store:
        drift_decisions.store_decision(context, store, stored(told))
    home = unescape(browser(project).get("/refit/").text)
    assert 'class="card plain"><h2>Drift' in home
    assert 'class="plain-text words">nothing judged yet' in home
    assert home.lower().count("nothing to judge yet") == 1


def test_an_older_refits_decisions_say_nothing_of_when_they_were_made_and_the_latest_moment_counts() -> None:
    first, second = (stored(decision("ok") | {"as_of": f"2024-0{month}-02T00:00:00Z"}) for month in (3, 4))
    assert drift_decisions.newest_made([]) is None
    assert drift_decisions.newest_made([first, second]) == second
    noted = first.model_copy(update={"made_at": second.as_of})
    assert drift_decisions.newest_made([noted, second]) == noted


def test_history_names_each_candidate_as_its_card_and_mlflows_run_do(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = Training.read(project / TRAINING)
    print_history(register.history(context_of(project)))
    named = f"candidate {training.inputs[:8]}"
    assert named in capsys.readouterr().out
    client = browser(project)
    for page in ("", "history", "versions/1/card"):
        assert named in client.get(f"/refit/{page}").text
    assert training.run_name == f"{training.learner} {training.inputs[:8]}"


@pytest.mark.parametrize("path", ["%2e%2e/%2e%2e/params.yaml", "..%2fmodel_card.html", "no.html"])
def test_data_docs_serve_their_own_pages_only(project: Path, path: str) -> None:
    assert browser(project).get(f"/refit/data-docs/{path}").status_code == 404


def test_everything_else_is_mlflows(project: Path) -> None:
    client = browser(project)
    assert [client.get(path).text for path in ("/", "/api/2.0/mlflow/runs/get", "/refitted")] == ["MLflow"] * 3


def test_where_the_registry_is_a_server_the_pages_of_mlflow_are_on_that_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:hunter2@models.example.org/mlflow")
    app, _ = server_process._mlflow("secret")
    client = TestClient(app, follow_redirects=False)
    addresses = [client.get(path).headers["location"] for path in ("/?workflowType=machine_learning", "/static/a%20b")]
    assert addresses == [
        "https://models.example.org/mlflow/?workflowType=machine_learning",
        "https://models.example.org/mlflow/static/a%20b",
    ]
    assert client.get("/refit/card").status_code == 200


def test_a_project_without_a_champion_is_told_what_to_do(project: Path) -> None:
    for name in (".refit", "models", "reports"):
        shutil.rmtree(project / name)
    page = browser(project).get("/refit/")
    assert page.status_code == 200
    assert "There is no champion" in page.text
    assert "<code>refit run</code> trains and judges" in page.text


def test_a_report_that_cannot_be_read_is_a_warning_and_hides_nothing_else(project: Path) -> None:
    (project / "data/validated.json").write_text("{}")
    shown = overview(project)
    assert any("validated.json is damaged" in each for each in shown.warnings)
    assert "is champion" in shown.headline


def test_the_last_run_is_said_to_be_what_became_of_it(project: Path) -> None:
    receipt = Receipt.read(project / RECEIPT)
    (promotion,) = register.history(context_of(project))
    assert "The last run here made version 1, which is champion." in browser(project).get("/refit/").text
    later = receipt.model_copy(update={"version": "2"})
    awaited = replace(promotion, action="await", from_version="1", to_version="2")
    refused = replace(awaited, action="refuse", reasons=("rejected: no",))
    for lines, said in (
        ([promotion, awaited], "which waits for a person's approval."),
        ([promotion, awaited, refused], "which the gate would promote; it was refused: rejected: no"),
        ([promotion, replace(awaited, action="promote")], "which was champion and was replaced since."),
    ):
        assert last_run(later, lines, is_champion=False) == f"The last run here made version 2, {said}"
    elsewhere = later.model_copy(update={"outcome": Outcome(action=None, reasons=("aliases move only there",))})
    assert last_run(elsewhere, [promotion], is_champion=False).endswith(
        "which the gate would promote; it was not promoted: aliases move only there"
    )


def test_a_line_of_the_ledger_about_no_version_leads_to_none(capsys: pytest.CaptureFixture[str]) -> None:
    line = Entry("k", "2024-03-04T00:00:00Z", "ann", "repair", "accept", "toy", None, "0", ("it was lost",))
    page = home_page.render_history("toy", [line])
    assert "it was lost" in page
    assert "versions/" not in page
    assert Overview("toy", None, "", "plain", (), (), (), (line,)).numbers == []
    print_history([line])
    assert "accept    no version" in capsys.readouterr().out


def test_texts_of_data_people_and_files_are_printed_as_themselves() -> None:
    entry = Entry("k", "2024-03-04T00:00:00Z", HOSTILE, HOSTILE, "refuse", "toy", "1", "2", (HOSTILE,))
    page = home_page.render(
        Overview(
            model=HOSTILE,
            environment=HOSTILE,
            headline=HOSTILE,
            kind="good",
            sentences=(HOSTILE,),
            tiles=(Tile(HOSTILE, HOSTILE, HOSTILE),),
            cards=(Card(HOSTILE, HOSTILE, (Link(HOSTILE, '"><script>'),)),),
            entries=(entry,),
            warnings=(HOSTILE,),
        )
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 12
    assert "refused" in page
