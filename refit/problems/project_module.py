"""Runs a Python file of the project as a module of its own, whose name is the digest of its text."""

from __future__ import annotations

import hashlib
import sys
from types import ModuleType

from refit.errors import failure

__all__ = ["failure", "file_of", "project_module"]


def file_of(kind: str) -> str | None:
    """The project file in a learner's kind; None if the kind is an import path or one of Refit's own.

    >>> file_of("my_learner.py:Nearest"), file_of("sklearn.svm.SVC")
    ('my_learner.py', None)
    """
    file, _, name = kind.rpartition(":")
    return file if file.endswith(".py") and name.isidentifier() else None


def project_module(file: str, source: str) -> ModuleType:
    """Run the text of a file as a module: other code is another module, the same code is run once.

    Raises:
        Exception: whatever the file raises.
    """
    name = f"_refit_own_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module
    try:
        exec(compile(source, file, "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module
