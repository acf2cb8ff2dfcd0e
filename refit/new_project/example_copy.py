"""Copies an example of Refit's repository into a folder, as a project of its own."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refit.config import nearest, parse, schema
from refit.errors import UserError
from refit.files.yaml_files import read_yaml
from refit.new_project.given_params import raw_paths

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_LINK = re.compile(r"\[([^\]]*)\]\(\.\./(?:\.\./)?([^)#]*)[^)]*\)")  # to a page of Refit, or to another example
__all__ = ["copied"]


@contextmanager
def copied(name: str, folder: Path) -> Iterator[None]:
    """Copy the params, code and README of an example before the block, and its rows where they are in its folder.

    Other data are not part of Refit: a copy runs on a generated stand-in, unless its params name the file. If the block
    fails, what was copied is removed.

    Raises:
        UserError: there is no such example, or the folder holds a file of that name.
    """
    names = sorted(each.parent.name for each in EXAMPLES.glob("*/params.yaml"))
    if not names:
        raise UserError("--from-example: the examples are in Refit's repository, which this installation is not from")
    if name not in names:
        raise UserError(f"--from-example {name}: no such example{nearest(name, names)}; there are {', '.join(names)}")
    example = EXAMPLES / name
    rows = [path for each in raw_paths(parse(read_yaml(example / "params.yaml"))) if (path := example / each).is_file()]
    sources = [example / "params.yaml", example / "README.md", *sorted(example.glob("*.py")), *rows]
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
        readme.write_text(_in_copy(readme.read_text(encoding="utf-8"), name), encoding="utf-8")
        yield
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            for source in sources:
                with suppress(OSError):
                    (folder / source.name).unlink()
        raise


def _in_copy(readme: str, name: str) -> str:
    """The text of an example's README as it is true of a copy, with no link that leads nowhere.

    >>> _in_copy("refit run --project examples/map: see [drift](../../docs/drift.md#x), [digits](../digits)", "map")
    "refit run: see drift (Refit's docs/drift.md), digits (Refit's examples/digits)"
    """
    text = readme.replace(f" --project examples/{name}", "").replace(f"python examples/{name}/", "python ")
    text = text.replace(" --project examples/", " --project ../")  # another example, copied to a folder next to it

    def named(link: re.Match[str]) -> str:
        return f"{link[1]} (Refit's {link[2] if link[2].startswith('docs/') else f'examples/{link[2]}'})"

    return _LINK.sub(named, text)
