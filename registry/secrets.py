"""Secrets in texts: recognised, so that nothing that is printed or stored repeats one.

Credentials belong in the environment. `params.yaml` is committed, and a copy of it lies in every model version, so
`${NAME}` stays `${NAME}` there; its value is put in when a connection is made, and goes nowhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

HIDDEN = "***"
LONG_ENOUGH = 6  # characters: a shorter secret is hidden where a pattern shows it, not wherever its letters occur

_WORD = (  # that names a secret, as part of a name
    r"(?:token|secret(?:[ _-]?key)?|passw|passphrase|pwd|signature|credential|(?:api|access|account)[ _-]?key)"
)
_VALUE = r"""(?P<secret>\{[^}]*\}|'[^']*'|"[^"]*"|[^\s,;&#'"]+)"""
# user:password@, the password up to the last @ of a text without blanks; host:5000/a@b is none
_PASSWORD = re.compile(
    r"""(?P<keep>\b[a-z][a-z0-9+.-]{0,30}://[^\s:/?#@'"\[]{0,200}:)(?!\d+[/?#])(?P<secret>[^\s'"]{1,300})(?=@)""", re.I
)
_TOKEN = re.compile(r"""(?P<keep>\bhttps?://)(?P<secret>[^\s:/?#@'"]+)(?=@)""", re.I)
_QUERY = re.compile(rf"(?P<keep>[?&](?:[\w.-]{{0,40}}{_WORD}[\w.-]{{0,40}}|sig|pw)=){_VALUE}", re.I)
_KEYS = re.compile(
    r"(?P<keep>)\b(?P<secret>(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_\w{20,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,})"
)
# the parameters of a DSN; a longer word that only begins so (`tokens=5`, `pwd_changed=1`) is none
_PAIR = re.compile(
    rf"(?P<keep>\b(?:[\w-]{{1,40}}[ _-])?{_WORD.replace('passw', 'password|passwd')}\s*=\s*){_VALUE}", re.I
)
_BEARER = re.compile(r"(?P<keep>\b(?:bearer|authorization:\s*\w+)\s+)(?P<secret>[\w.~+/-]{8,}=*)", re.I)
_ALWAYS = (_PASSWORD, _TOKEN, _QUERY, _KEYS)
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")
_SET = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD")


def redacted(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """A text with `***` for each password, token and key in it.

    >>> redacted("postgresql://refit:p@ss/w@db/m?sslmode=require failed; https://h/f?sig=abc&x=1")
    'postgresql://refit:***@db/m?sslmode=require failed; https://h/f?sig=***&x=1'
    >>> redacted("Driver={PostgreSQL};Server=db;Pwd={a;b};Port=5432"), redacted("http://mlflow:5000/a@b")
    ('Driver={PostgreSQL};Server=db;Pwd=***;Port=5432', 'http://mlflow:5000/a@b')
    """
    for pattern in (*_ALWAYS, _PAIR, _BEARER) if len(text) >= LONG_ENOUGH else ():
        text = pattern.sub(lambda match: match["keep"] + _hidden(match["secret"]), text)
    for secret in _known(environ):
        text = text.replace(secret, HIDDEN)
    return text


def holds_literal(text: str, *, address: bool = False) -> bool:
    """Whether a text of `params.yaml` holds a secret itself, instead of the name of a variable: `${NAME}`.

    Args:
        address: the text says where something is, so that `password=...` in it is no comparison of a query.

    >>> holds_literal("postgresql://refit:${DB_PASSWORD}@db/m"), holds_literal("postgresql://refit:hunter2@db/m")
    (False, True)
    """
    patterns = (*_ALWAYS, _PAIR) if address else _ALWAYS
    return any(_hidden(match["secret"]) == HIDDEN for pattern in patterns for match in pattern.finditer(text))


def expanded(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """A text with the environment's values for `${NAME}` and `${NAME:-default}`: to connect with, not to show.

    Raises:
        LookupError: a variable is not set; it names it.
    """

    def value(match: re.Match[str]) -> str:
        if (found := environ.get(match["name"]) or match["default"]) is None:
            raise LookupError(match["name"])
        return found

    return _VARIABLE.sub(value, text)


def _hidden(secret: str) -> str:
    """What is shown of a secret: the name of a variable without a default says nothing."""
    variable = _VARIABLE.fullmatch(secret)
    return secret if secret == HIDDEN or (variable and variable["default"] is None) else HIDDEN


def _known(environ: Mapping[str, str]) -> list[str]:
    """The secrets of this process's environment, as a library's error may repeat them."""
    secrets = [environ.get(name, "") for name in _SET]
    if match := _PASSWORD.search(environ.get("MLFLOW_TRACKING_URI", "")):
        secrets.append(match["secret"])
    return [secret for secret in secrets if len(secret) >= LONG_ENOUGH]
