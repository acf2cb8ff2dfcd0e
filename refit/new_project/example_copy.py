"""Copies an example of Refit's repository into a folder, as a project of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refit.config import nearest, schema
from refit.errors import UserError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
__all__ = ["copied"]


@contextmanager
def copied(name: str, folder: Path) -> Iterator[None]:
    """Copy the params, code and README of an example before the block; remove them if it fails.

    Its data are not part of Refit: a copy runs on a generated stand-in, unless its params name the file.

    Raises:
        UserError: there is no such example, or the folder holds a file of that name.
    """
    names = sorted(each.parent.name for each in EXAMPLES.glob("*/params.yaml"))
    if not names:
        raise UserError("--from-example: the examples are in Refit's repository, which this installation is not from")
    if name not in names:
        raise UserError(f"--from-example {name}: no such example{nearest(name, names)}; there are {', '.join(names)}")
    sources = [EXAMPLES / name / "params.yaml", EXAMPLES / name / "README.md", *sorted((EXAMPLES / name).glob("*.py"))]
    for source in sources:
        if os.path.lexists(folder / source.name):
            raise UserError(f"{folder} holds {source.name} already; name another folder")
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copyfile(source, folder / source.name)
        params = folder / "params.yaml"
        text = params.read_text(encoding="utf-8")
        params.write_text(schema.first_line() + text.partition("\n")[2], encoding="utf-8")
        readme = folder / "README.md"
        text = readme.read_text(encoding="utf-8").replace(f" --project examples/{name}", "")
        text = text.replace(" --project examples/", " --project ../")  # another example, copied to a folder next to it
        readme.write_text(text, encoding="utf-8")
        yield
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            for source in sources:
                with suppress(OSError):
                    (folder / source.name).unlink()
        raise
