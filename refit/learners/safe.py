"""Reads and writes file formats that run no code when read: skops for scikit-learn, safetensors for arrays."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from refit.errors import RefitError, first_line

# Types in scikit-learn's own estimators that skops does not trust by default. Each was reviewed: they are records of
# arrays and numbers, without code. A forged tree could make the compiled predictor read beyond its arrays, which is why
# skops excludes trees; here a file is read only if its sha256 matches the manifest.
# For a partial, skops also lists the function that it calls, which must be trusted too.
TRUSTED_TYPES = (
    "functools.partial",
    "numpy.dtype",
    "scipy.sparse._csr.csr_matrix",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.CompoundKernel",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.DotProduct",
    "sklearn.gaussian_process.kernels.ExpSineSquared",
    "sklearn.gaussian_process.kernels.Exponentiation",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.RationalQuadratic",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
    # ours, in models of earlier versions only (`estimator_files`): these paths have to stay
    "refit.learners.networks.autoencoder.Autoencoder",
    "refit.learners.tails.COPOD",
    "refit.learners.tails.ECOD",
)


def _skops_io() -> Any:
    """The module `skops.io`, imported without torch.

    It lists all estimators of scikit-learn, which imports every package in it; one of them imports torch: 2.6 s and
    220 MB that nothing here needs. Packages that cannot be imported are skipped.
    """
    with out_of_reach("sklearn.externals.array_api_compat.torch"):
        import skops.io

        return skops.io


@contextmanager
def out_of_reach(module: str) -> Iterator[None]:
    """Make importing a module fail within the block, unless it has already been imported."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


@contextmanager
def no_pickle() -> Iterator[None]:
    """Make reading a pickle fail within the block, in this thread, so that no stored model can run code."""
    _install_refusal()
    before, _refusing.on = _refusing.on, True
    try:
        yield
    finally:
        _refusing.on = before


class _Refusing(threading.local):
    on = False


_refusing = _Refusing()


@cache
def _install_refusal() -> None:
    """Install the audit hook once per process, because it cannot be removed."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class" and _refusing.on:
        raise RefitError("a pickle was read, which may run anything; store models as JSON, text or safetensors")


def unsafe_reason(model: Any, trusted_types: Iterable[str]) -> str | None:
    """The reason why skops cannot store a fitted model, or would not load it; None if it can and would."""
    untrusted = untrusted_types(model, trusted_types)
    if isinstance(untrusted, str):
        return f"skops cannot store it: {untrusted}"
    if untrusted:
        return f"it holds types that are not trusted: {', '.join(untrusted)} (registry.trusted_types allows more)"
    return None


def untrusted_types(model: Any, trusted_types: Iterable[str]) -> list[str] | str:
    """The types in a fitted model that are not trusted; a text with the reason if skops cannot store it at all."""
    skops_io = _skops_io()
    try:
        types = skops_io.get_untrusted_types(data=skops_io.dumps(model))
    except Exception as error:  # any error in a third-party type's serialisation means that it cannot be stored
        return first_line(error)
    return sorted(set(types) - set(TRUSTED_TYPES) - set(trusted_types))


def save_skops(model: Any, path: Path) -> None:
    _skops_io().dump(model, path)


def load_skops(path: Path, trusted_types: Iterable[str]) -> Any:
    """Load the model in a skops file whose digest has been checked.

    Raises:
        RefitError: it holds a type that is not trusted, or is not a skops file.
    """
    import struct
    import zipfile
    import zlib

    skops_io = _skops_io()
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops_io.load(path, trusted=[*TRUSTED_TYPES, *trusted_types])
    except UntrustedTypesFoundException as error:
        raise RefitError(
            f"{path} holds types that are not trusted; registry.trusted_types allows more, once you know them: {error}"
        ) from None
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, NotImplementedError, RuntimeError,
        KeyError, IndexError, ValueError, TypeError, AttributeError, ImportError,
    ) as error:  # fmt: skip
        raise RefitError(f"{path} is no skops file ({error}); restore the folder, or train again") from None


def save_arrays(arrays: Mapping[str, np.ndarray[Any, Any]], path: Path) -> None:
    """Write named arrays as safetensors; the bytes depend only on the arrays."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}, path)


def load_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Load the arrays in a safetensors file.

    Raises:
        RefitError: it is not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise RefitError(f"{path} is no safetensors file ({error}); restore the folder, or train again") from None
