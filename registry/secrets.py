"""Detects secrets in texts, so that none is printed or stored.

Credentials belong in the environment. `params.yaml` is committed, and every model version holds a copy of it, so
`${NAME}` stays `${NAME}` there; its value is only used to make a connection.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

HIDDEN = "***"
LONG_ENOUGH = 6  # characters: a shorter secret is hidden only where a pattern matches, not wherever its letters occur

_WORD = (  # part of a name that denotes a secret
    r"(?:token|secret(?:[ _-]?key)?|passw|passphrase|pwd|signature|credential|(?:api|access|account)[ _-]?key)"
)
_VALUE = r"""(?P<secret>\{[^}]*\}|'[^']*'|"[^"]*"|[^\s,;&#'"]+)"""
# user:password@, where the password ends at the last @ before a blank; host:5000/a@b has no password
_PASSWORD = re.compile(
    r"""(?P<keep>\b[a-z][a-z0-9+.-]{0,30}://[^\s:/?#@'"\[]{0,200}:)(?!\d+[/?#])(?P<secret>[^\s'"]{1,300})(?=@)""", re.I
)
_TOKEN = re.compile(r"""(?P<keep>\bhttps?://)(?P<secret>[^\s:/?#@'"]+)(?=@)""", re.I)
_QUERY = re.compile(rf"(?P<keep>[?&](?:[\w.-]{{0,40}}{_WORD}[\w.-]{{0,40}}|sig|pw)=){_VALUE}", re.I)
_KEYS = re.compile(
    r"(?P<keep>)\b(?P<secret>(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_\w{20,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,})"
)
# parameters of a DSN; a longer word with the same beginning (`tokens=5`, `pwd_changed=1`) does not match
_PAIR = re.compile(
    rf"(?P<keep>\b(?:[\w-]{{1,40}}[ _-])?{_WORD.replace('passw', 'password|passwd')}\s*=\s*){_VALUE}", re.I
)
_BEARER = re.compile(r"(?P<keep>\b(?:bearer|authorization:\s*\w+)\s+)(?P<secret>[\w.~+/-]{8,}=*)", re.I)
_ALWAYS = (_PASSWORD, _TOKEN, _QUERY, _KEYS)
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")
_SET = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD")


def redacted(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Replace each password, token and key in a text by `***`.

    >>> redacted("postgresql://refit:p@ss/w@db/m?sslmode=require failed; https://h/f?sig=abc&x=1")
    'postgresql://refit:***@db/m?sslmode=require failed; https://h/f?sig=***&x=1'
    >>> redacted("Driver={PostgreSQL};Server=db;Pwd={a;b};Port=5432"), redacted("http://mlflow:5000/a@b")
    ('Driver={PostgreSQL};Server=db;Pwd=***;Port=5432', 'http://mlflow:5000/a@b')
    """
    for pattern in (*_ALWAYS, _PAIR, _BEARER) if len(text) >= LONG_ENOUGH else ():
        text = pattern.sub(lambda match: match["keep"] + _hidden(match["secret"]), text)
    for secret in _environment_secrets(environ):
        text = text.replace(secret, HIDDEN)
    return text


def first_line(error: object, most: int = 300) -> str:
    """The first line of an error's message, without secrets; the name of its class if the message is empty.

    Args:
        most: after how many characters it may be cut.

    >>> first_line(ValueError("\\n5 is no date\\nat line 3")), first_line(MemoryError())
    ('5 is no date', 'MemoryError')
    """
    return cut(redacted(next(iter(str(error).strip().splitlines()), type(error).__name__)), most)


def cut(text: str, most: int) -> str:
    """A text, or its beginning up to the end of a word if it has more characters than `most`.

    >>> cut("the database is locked", 22), cut("the database is locked", 20), cut("locked", 4)
    ('the database is locked', 'the database is ...', 'lock ...')
    """
    return text if len(text) <= most else f"{text[: most + 1].rpartition(' ')[0] or text[:most]} ..."


def holds_literal(text: str, *, address: bool = False) -> bool:
    """Whether a text of `params.yaml` holds a secret itself, rather than the name of a variable: `${NAME}`.

    Args:
        address: the text is an address, so that `password=...` in it is a secret and not a comparison in a query.

    >>> holds_literal("postgresql://refit:${DB_PASSWORD}@db/m"), holds_literal("postgresql://refit:hunter2@db/m")
    (False, True)
    """
    patterns = (*_ALWAYS, _PAIR) if address else _ALWAYS
    return any(_hidden(match["secret"]) == HIDDEN for pattern in patterns for match in pattern.finditer(text))


def expanded(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Replace `${NAME}` and `${NAME:-default}` by values of the environment. The result must not be shown.

    Raises:
        LookupError: a variable is not set; the error holds its name.
    """

    def value(match: re.Match[str]) -> str:
        if (setting := environ.get(match["name"]) or match["default"]) is None:
            raise LookupError(match["name"])
        return setting

    return _VARIABLE.sub(value, text)


def _hidden(secret: str) -> str:
    """What to show in place of a secret: the name of a variable without a default may be shown."""
    variable = _VARIABLE.fullmatch(secret)
    return secret if secret == HIDDEN or (variable and variable["default"] is None) else HIDDEN


def _environment_secrets(environ: Mapping[str, str]) -> list[str]:
    """The secrets in the environment of this process, which the error of a library may repeat."""
    secrets = [environ.get(name, "") for name in _SET]
    for name in ("MLFLOW_TRACKING_URI", "REFIT_LEDGER_URI"):
        if match := _PASSWORD.search(environ.get(name, "")):
            secrets.append(match["secret"])
    return [secret for secret in secrets if len(secret) >= LONG_ENOUGH]
