"""What a project takes for its own servers: those it started, wherever the folder was copied or moved since."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil
import pytest

from flows.notifications import card_link
from flows.services import service_state
from flows.services.processes import Started
from flows.services.service_state import MLFLOW, PREFECT
from refit.errors import RefitError


def up(project: Path) -> Started:
    """A record as `refit up` leaves it."""
    log = project / ".refit" / "prefect.log"
    log.parent.mkdir(parents=True)
    log.touch()
    started = Started(PREFECT, 1, 0.0, "mark", str(log), 4200)
    service_state.write_record(project, {PREFECT: started})
    return started


def test_a_copied_project_leaves_the_servers_of_the_original_alone(tmp_path: Path) -> None:
    started = up(tmp_path / "original")
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    assert service_state.read_record(tmp_path / "copy") == {}
    assert service_state.read_record(tmp_path / "original") == {PREFECT: started}


def test_a_project_that_was_moved_while_it_was_up_can_still_end_what_it_started(tmp_path: Path) -> None:
    started = up(tmp_path / "original")
    (tmp_path / "original").rename(tmp_path / "moved")
    assert service_state.read_record(tmp_path / "moved") == {PREFECT: started}


def test_pages_of_servers_lead_to_the_home_page_while_its_server_is_up_and_name_files_else(tmp_path: Path) -> None:
    assert service_state.home_page(tmp_path) is None
    assert "model\\_card.html" in card_link(tmp_path, "2")
    up(tmp_path)
    this = Started(
        MLFLOW, os.getpid(), psutil.Process().create_time(), "mark", str(tmp_path / ".refit/mlflow.log"), 5000
    )
    service_state.write_record(tmp_path, {MLFLOW: this})
    assert service_state.home_page(tmp_path) == "http://127.0.0.1:5000/refit/"
    assert card_link(tmp_path, "2") == "[version 2](http://127.0.0.1:5000/refit/versions/2/card)"


@pytest.mark.parametrize("content", ["null", "[1]", '[{"name": "prefect"}]', '{"a": 1}'])
def test_a_record_that_says_nothing_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / service_state.UP
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(RefitError, match=r"up\.json does not say what `refit up` started; delete it"):
        service_state.read_record(tmp_path)
