"""When an unchanged `register` runs again: the registry, or the champion, is not as its receipt says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from refit.errors import RefitError
from refit.files import artifacts
from refit.models import incumbent
from registry.client import client
from registry.ledger import Ledger
from tasks import register

pytestmark = pytest.mark.usefixtures("same_process")


class TestNeedsRerun:
    """An unchanged `register` is checked against the registry, which DVC cannot see."""

    def test_nothing_to_do_right_after_a_run_promoted_or_refused(self, project: Any) -> None:
        project.registered(0)
        assert register.needs_rerun(project.context) is None
        project.registered(1, promote=False)
        assert register.needs_rerun(project.context) is None

    def test_a_missing_receipt(self, project: Any) -> None:
        assert register.needs_rerun(project.context) == "models/receipt.json is missing"

    def test_a_deleted_version(self, project: Any) -> None:
        project.registered(0)
        project.registered(1, promote=False)
        client(project.store).delete_model_version("toy", "2")
        assert register.needs_rerun(project.context) == "version 2 of toy is no longer in the registry"
        register.run(project.context)
        assert project.receipt["version"] == "3"
        assert register.needs_rerun(project.context) is None

    def test_a_lost_challenger(self, project: Any) -> None:
        project.registered()
        client(project.store).delete_registered_model_alias("toy", "challenger")
        assert "lost its alias challenger" in (register.needs_rerun(project.context) or "")
        register.run(project.context)
        assert project.aliases == {"challenger": "1", "champion": "1"}

    def test_a_promotion_by_hand(self, project: Any) -> None:
        project.registered(0)
        project.registered(1, promote=False)
        register.promote(project.context, "2", "I say so")
        assert register.needs_rerun(project.context) == "version 2 of toy is the champion now"
        register.run(project.context)
        assert project.receipt["alias"] == "champion"
        assert register.needs_rerun(project.context) is None

    def test_a_successor_from_elsewhere(self, project: Any) -> None:
        project.registered(0)
        receipt = (project.folder / artifacts.RECEIPT).read_bytes()
        project.registered(1)
        (project.folder / artifacts.RECEIPT).write_bytes(receipt)
        assert register.needs_rerun(project.context) == "version 1 of toy is no longer the champion"

    def test_a_promotion_that_was_cut_off(self, project: Any) -> None:
        project.registered(0)
        project.registered(1, promote=False)
        Ledger.of(project.store).begin(replace(project.ledger[-1], action="promote", key="cut off"))
        assert register.needs_rerun(project.context) == "a promotion was cut off"


class TestLostChampion:
    """The ledger remembers which version is champion; a registry that has lost it did have a champion."""

    def test_a_deleted_champion_is_an_error_and_not_nobody(self, project: Any) -> None:
        project.registered(0)
        client(project.store).delete_model_version("toy", "1")
        for call in (incumbent.refresh, register.champion_summary):
            with pytest.raises(RefitError, match=r"version 1 of toy is the champion by the ledger.*has no champion"):
                call(project.context)

    def test_a_removed_alias_stops_the_next_promotion_and_a_person_sets_it_right(self, project: Any) -> None:
        project.registered(0)
        project.judged(1)
        client(project.store).delete_registered_model_alias("toy", "champion")
        with pytest.raises(RefitError, match="has no champion"):
            register.run(project.context)
        register.promote(project.context, "1", "the alias was removed by mistake")
        assert register.champion_summary(project.context).version == "1"

    def test_a_version_that_refit_did_not_register_is_no_comparand(self, project: Any) -> None:
        project.registered(0)
        client(project.store).create_model_version("toy", source="somewhere")
        client(project.store).set_registered_model_alias("toy", "champion", "2")
        with pytest.raises(RefitError, match=r"version 2 of toy has no tag refit\.model_digest"):
            incumbent.refresh(project.context)
