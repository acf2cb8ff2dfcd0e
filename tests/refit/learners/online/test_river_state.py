"""A stored state of river makes models of river, and nothing that reads files or takes the place of a method."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from refit.errors import RefitError

pytest.importorskip("river", reason="needs the extra [online]")
from refit.learners.online import river_json


def attributes(**values: Any) -> dict[str, Any]:
    return {"dict": [[name, value] for name, value in values.items()]}


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("part", ["river.stream.cache:Cache", "river.compose.union:TransformerUnion", "river.checks:x"])
def test_parts_of_river_that_read_files_or_run_functions_are_refused(part: str) -> None:
    with pytest.raises(RefitError, match="is no class of river's models"):
        river_json.decode({"object": part, "state": attributes()})


def test_no_attribute_takes_the_place_of_a_method() -> None:
    model = {"object": "river.dummy:NoChangeClassifier", "state": attributes(predict_proba_one=1)}
    with pytest.raises(RefitError, match="'predict_proba_one' is a method of NoChangeClassifier, no attribute"):
        river_json.decode(model)


def test_a_state_cannot_lead_to_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    last = {"object": "river.dummy:NoChangeClassifier", "state": attributes(last_class=str(tmp_path / "x.pkl"))}
    cache = attributes(directory=str(tmp_path), keys={"set": []}, _get_path={"method": "predict_one", "of": last})
    step = attributes(
        transform_one={"method": "__getitem__", "of": {"object": "river.stream.cache:Cache", "state": cache}}
    )
    with pytest.raises(RefitError, match="it is no state of a river model"):
        river_json.decode({"object": "river.dummy:NoChangeClassifier", "state": step})
    assert not (tmp_path / "sprung").exists()
