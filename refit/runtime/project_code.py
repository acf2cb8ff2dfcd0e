"""Loads Python files of a project by path, without leaving them in `sys.modules`."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from refit.config import nearest
from refit.errors import UserError
from refit.files import artifacts

OWN_PACKAGES = ("flows", "tasks", "feature_store", "registry")


class _Uncached(SourceFileLoader):
    """Compiles the file at every load.

    Python's own bytecode goes by a file's size and the second of its change: an edit of a digit within that second, or
    in a checkout that sets the times of its files, would run as the code before.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load(project: Path, name: str, where: str) -> ModuleType:
    """Load a Python file of the project as a module; `where` is its path in params, for messages.

    Raises:
        UserError: there is no such file in the project. Errors of its code are passed on.
    """
    path = (project / name).resolve()
    if not path.is_relative_to(project.resolve()) or not path.is_file():
        have = [p.relative_to(project).as_posix() for p in project.glob("**/*.py")]
        raise UserError(f"params.yaml: {where}: no file {name} in the project{nearest(name, have)}")
    module_name = f"_refit_project_{artifacts.sha256(path)[:16]}"
    spec = importlib.util.spec_from_file_location(module_name, path, loader=_Uncached(module_name, str(path)))
    if spec is None or spec.loader is None:
        raise UserError(f"{name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        if (own := (error.name or "").partition(".")[0]) in OWN_PACKAGES and (project / own).is_dir():
            raise UserError(
                f"{name} imports {error.name}, and {own} is a package of Refit, which a folder of the project cannot "
                "replace; rename the folder"
            ) from None
        raise
    finally:
        del sys.modules[module_name]
    return module
