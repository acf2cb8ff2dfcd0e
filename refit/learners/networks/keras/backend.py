"""Imports Keras with the backend that a learner names, because a process can have one only."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any, Literal

from refit.errors import UserError
from refit.extras import install_extra
from refit.learners.safe import out_of_reach

Backend = Literal["torch", "tensorflow"]

EXTRAS: dict[Backend, str] = {"torch": "keras", "tensorflow": "tensorflow"}
SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # its order of sums, and so the last bits of a model, depends on the processor
}


def import_keras(backend: Backend, kind: str, where: str) -> Any:
    """The module `keras` with a backend, on one thread and with Keras's own defaults.

    Neither `~/.keras/keras.json` nor variables of the environment are read: a model would depend on them.

    Raises:
        UserError: it is not installed, or this process uses Keras with another backend.
    """
    if (imported := sys.modules.get("keras")) is None:
        return _first_import(backend, kind, where)
    if (used := imported.config.backend()) != backend:
        raise UserError(
            f"learner {kind!r} wants Keras with backend {backend}, this process uses it with {used}, and a process "
            f"can have one only; give all learners, the champion's included, the same backend ({where}.params.backend)"
        )
    return imported


def _first_import(backend: Backend, kind: str, where: str) -> Any:
    with tempfile.TemporaryDirectory() as home, _environment(KERAS_BACKEND=backend, KERAS_HOME=home, **SETTINGS):
        try:
            if backend == "tensorflow":
                _prepare_tensorflow(import_module("tensorflow"))
            # Keras seeds TensorFlow wherever it is installed: 15 s and 600 MB that torch does not need.
            with out_of_reach("tensorflow") if backend == "torch" else nullcontext():
                keras = import_module("keras")
                keras.utils.set_random_seed(0)
        except ModuleNotFoundError as error:
            missing = "tensorflow" if error.name == "tensorflow" else "keras"
            raise UserError(
                f"learner {kind!r} needs {missing}, which is not installed; install it with Refit: "
                f"{install_extra(EXTRAS[backend])} ({where}.kind)"
            ) from None
    return keras


def _prepare_tensorflow(tensorflow: Any) -> None:
    tensorflow.get_logger().setLevel("ERROR")  # it warns of the graphs that it traces, one for each fit
    tensorflow.config.experimental.enable_op_determinism()
    tensorflow.config.set_visible_devices([], "GPU")
    for set_threads in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        getattr(tensorflow.config.threading, set_threads)(1)


@contextmanager
def _environment(**changes: str) -> Iterator[None]:
    """Set variables of the environment within the block; others that begin with KERAS_ are out of sight."""
    before = {name: value for name, value in os.environ.items() if name in changes or name.startswith("KERAS_")}
    for name in before:
        del os.environ[name]
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in changes:
            del os.environ[name]
        os.environ.update(before)
