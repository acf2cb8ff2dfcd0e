"""Any module can be the first one imported: no cycle hides behind another's import order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_module_can_be_imported_first(root: Path) -> None:
    modules = [
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for package in ("flows", "tasks", "feature_store", "registry")
        for path in sorted((root / package).rglob("*.py"))
        if path.stem != "__main__"
    ]
    script = (
        "import importlib, sys\n"
        "ours = ('flows', 'tasks', 'feature_store', 'registry')\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [m for m in sys.modules if m.split('.')[0] in ours]: del sys.modules[loaded]\n"
        "    try: importlib.import_module(name)\n"
        "    except Exception as error: print(name, repr(error))\n"
    )
    command = [sys.executable, "-c", script, *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == ""
