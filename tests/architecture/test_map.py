"""What CONTRIBUTING and the decision record on rooms say of the tree is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

LAYERS = "The house: each room imports only what stands below it"


def test_every_place_that_contributing_names_is_there(root: Path) -> None:
    text = (root / "CONTRIBUTING.md").read_text()
    table = text[text.index("## Where things lie") : text.index("The rooms are layers")]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 10
    for row in rows:
        places = [name for name in re.findall(r"`([\w/.]+)`", row.rpartition("|")[0].rpartition("|")[2]) if "/" in name]
        assert places, row
        for place in places:
            assert (root / place).exists(), row


def test_every_package_of_the_library_is_a_layer(root: Path) -> None:
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["name"] == LAYERS)
    named = {room.strip() for layer in layers for room in layer.split("|")}
    rooms = {f"refit.{path.stem}" for path in (root / "refit").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"refit.__init__", "refit.__main__", "refit.__pycache__"} <= named
    assert {"flows", "tasks", "feature_store", "registry"} <= named
    drawn = (root / "infra/adr/0019-a-library-below-the-steps.md").read_text()
    assert [
        room for room in named if not re.search(rf"^{re.escape(room)}\b|[|,] {re.escape(room)}\b", drawn, re.M)
    ] == []


def test_contributing_says_why_each_library_of_the_core_is_capped(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    capped = {re.split(r"[<>=]", line)[0] for line in project["dependencies"] if "<" in line or "==" in line}
    text = (root / "CONTRIBUTING.md").read_text()
    table = text[text.index("| capped | because |") : text.index("## House rules")]
    named = {
        name
        for row in table.splitlines()
        for name in re.findall(r"`([\w-]+)`", row.split("|")[1] if "|" in row else "")
    }
    assert named == capped
