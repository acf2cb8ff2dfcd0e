"""The libraries that only some projects need: which extra of Refit brings each, and how it is installed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from refit.errors import UserError, chain

__all__ = ["EXTRA_OF", "install_extra", "not_installed"]

EXTRA_OF: Mapping[str, str] = {  # by module
    "torch": "torch",
    "lightgbm": "boosting",
    "xgboost": "boosting",
    "keras": "keras",
    "tensorflow": "tensorflow",
    "tokenizers": "transformers",
    "transformers": "transformers",
    "peft": "transformers",
    "river": "online",
    "gymnasium": "rl",
    "stable_baselines3": "rl",
    "psycopg": "server",
    "boto3": "s3",
    "deltalake": "delta",
    "pyiceberg": "iceberg",
    "ray": "ray",
    "prefect_ray": "ray",
    "mlxtend": "baskets",
    "umap": "umap",
    "model_signing": "signing",
}
WITH_TORCH = ("torch", "keras", "tensorflow", "transformers", "rl")
_CHECKOUT = Path(__file__).resolve().parents[1]


def install_extra(name: str) -> str:
    """The command that installs an extra, for a checkout of Refit or for the environment that its wheel is in.

    With torch it takes the build for the machine's GPU, or the much smaller one for the CPU where there is none.

    >>> install_extra("boosting")
    "uv pip install -c constraints.txt -e '.[boosting]'"
    >>> install_extra("torch")
    "uv pip install -c constraints.txt -e '.[torch]' --torch-backend=auto"
    """
    backend = " --torch-backend=auto" if name in WITH_TORCH else ""
    if (_CHECKOUT / "constraints.txt").is_file():
        return f"uv pip install -c constraints.txt -e '.[{name}]'{backend}"
    wanted = " ".join(shlex.quote(each) for each in requirements_of(name))
    return f"uv pip install --python {shlex.quote(sys.executable)} {wanted}{backend}"


def requirements_of(extra: str) -> list[str]:
    """What an extra adds to Refit's own requirements, as the installed package states it."""
    marker = f'extra == "{extra}"'
    lines = [line.partition(";") for line in metadata.requires("refit") or ()]
    own = [requirement.strip() for requirement, _, condition in lines if marker in condition.replace("'", '"')]
    return [
        each
        for line in own
        for each in (requirements_of(line[len("refit[") : -1]) if line.startswith("refit[") else [line])
    ]


def not_installed(error: BaseException, needed_for: str, where: str = "") -> UserError | None:
    """The error that says which extra is missing, if a missing library of an extra caused `error`; else None.

    >>> print(not_installed(ModuleNotFoundError(name="torch"), "learner 'mlp'", "train.learners[0].kind"))
    learner 'mlp' needs torch, which is not installed; install it next to Refit: uv pip install -c constraints.txt \
-e '.[torch]' --torch-backend=auto (train.learners[0].kind)
    """
    for each in chain(error):
        module = (each.name or "").partition(".")[0] if isinstance(each, ModuleNotFoundError) else ""
        if extra := EXTRA_OF.get(module):
            at = f" ({where})" if where else ""
            return UserError(
                f"{needed_for} needs {module}, which is not installed; install it next to Refit: "
                f"{install_extra(extra)}{at}"
            )
    return None
