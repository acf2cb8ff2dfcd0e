"""Infers the label column, its task, and the positive one of two values."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

from feature_store.sql_text import quote
from refit.errors import UserError
from refit.new_project.column_reading import FEW_NUMBERS, MOST_CLASSES, Column

LABEL_NAMES = ("label", "target", "y", "churn", "churned", "fraud", "late", "default", "outcome", "converted", "failed")
# Words for yes and no in many languages, without accents, and common names of positive and negative classes.
YES = (
    "1 true yes y t ja j si s sim oui o da д да tak evet e igen i kylla k jah jes wahr w vrai v verdadero vero "
    "verdadeiro"
)
NO = "0 -1 false no n f nein non nao нет н nie hayir h nem ei ne nej nee falsch faux falso"
LOOKED_FOR = (
    "churned late fraud fraudulent default defaulted positive pos bad failed failure fail converted up spam sick ill "
    "malignant abnormal left won win success cancelled canceled returned"
)
OTHERWISE = (
    "retained ontime on-time ok negative neg good passed pass down ham healthy well benign normal stayed lost loss "
    "paid legit genuine"
)
ELSEWHERE = (
    "はい いいえ",
    "是 否",
    "是 不是",
    "真 假",
    "예 아니요",
    "네 아니요",
    "نعم لا",
    "כן לא",
    "ναι οχι",
    "ano ne",
)
POSITIVE = frozenset((*YES.split(), *LOOKED_FOR.split(), *(pair.split()[0] for pair in ELSEWHERE)))
NEGATIVE = frozenset((*NO.split(), *OTHERWISE.split(), *(pair.split()[1] for pair in ELSEWHERE)))

NO_LABEL = " (a table without a label: Refit's docs/unsupervised.md)"


def find_label(columns: tuple[Column, ...], given: Column | None, time: Column | None, path: Path, rows: int) -> Column:
    """Return the label column: the named one, or the only possible one.

    Raises:
        UserError: no column or several are possible, or the values cannot be predicted.
    """
    binary = [column for column in columns if column.values and column is not time]
    named = [column for column in binary if column.alias in LABEL_NAMES]
    choice = named if len(named) == 1 else binary
    label = given or only_column(
        choice, "label", path, "column with just two values to predict", "the one to predict", NO_LABEL
    )
    too_many = task_of(label) == "multiclass" and label.distinct > min(MOST_CLASSES, rows / 2)
    if label.distinct < 2 or too_many:
        counts = ", ".join(f"{value!r} {count:,} times" for value, count in label.counts.items())
        has = f"{label.distinct} different value{'s' if label.distinct != 1 else ''}{': ' + counts if counts else ''}"
        right = f"a label has two, such as 0 and 1, up to {MOST_CLASSES} classes, or many numbers"
        raise UserError(f"--label {label.name}: it has {has}; {right}")
    if label is time:
        raise UserError(f"--label {label.name}: it is the time of the rows; name what is to be predicted")
    return label


def only_column(
    candidates: list[Column], role: str, path: Path, what: str, wanted: str = "one", otherwise: str = ""
) -> Column:
    """Return the only candidate for a role.

    Args:
        otherwise: what an error adds, for a table that has nothing of the role.

    Raises:
        UserError: there is none, or several.
    """
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise UserError(f"{path.name} has no {what}; name {wanted} with --{role} COLUMN{otherwise}")
    several = ", ".join(column.name for column in candidates)
    raise UserError(
        f"{path.name} has several columns that could be the {role}: {several}; name one with --{role}{otherwise}"
    )


def task_of(label: Column) -> str:
    """Return the task of a label: binary for two values, regression for many numbers, multiclass for a few values."""
    if label.values:
        return "binary"
    return "regression" if label.is_number and label.distinct > FEW_NUMBERS else "multiclass"


def positive_of(label: Column, given: str | None) -> str:
    """Return the value of a binary label that counts as 1: the given one, the larger number, or a positive word.

    Raises:
        UserError: neither value is recognised as positive, or the given one is neither of them.
    """
    first, second = label.values
    if given is not None:
        matches = [value for value in label.values if value == given] or [
            value for value in label.values if _plain(value) == _plain(given)
        ]
        if len(matches) != 1:
            raise UserError(f"--positive {given}: {label.name} holds {first!r} and {second!r}; name one of them")
        return matches[0]
    if label.type in ("integer", "number"):
        return max(label.values, key=float)
    ways = (
        [value for value in label.values if _plain(value) in POSITIVE],
        [value for value in label.values if _plain(value) not in NEGATIVE],
    )
    for matches in ways:
        if len(matches) == 1:
            return matches[0]
    raise UserError(
        f"--label {label.name}: which of {first!r} and {second!r} is looked for, and is 1, is not clear; say "
        f"--positive {second!r}, or the other; if it is not what is predicted, name that with --label{NO_LABEL}"
    )


def _plain(text: str) -> str:
    """Return a word without accents and in lower case.

    >>> _plain(" Sí "), _plain("NÃO")
    ('si', 'nao')
    """
    letters = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def spellings(connection: Any, label: Column) -> tuple[tuple[str, ...], ...]:
    """Return the classes of the table `t` that differ in case or outer spaces only, those of one word together."""
    text = quote(label.name)
    words = f"select list(distinct {text} order by {text}) as texts from t group by lower(trim({text}))"
    found = connection.execute(f"select texts from ({words}) where len(texts) > 1 order by texts").fetchall()
    return tuple(tuple(texts) for (texts,) in found)


def spread_of(connection: Any, label: Column) -> float:
    """Return the mean absolute deviation of the label from its median."""
    deviation = f"{label.number} - (select median({label.number}) from t)"
    [(mean,)] = connection.execute(f"select avg(abs({deviation})) from t").fetchall()
    return float(mean or 0.0)
