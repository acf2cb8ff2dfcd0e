"""Writes the model card: one HTML file that a person enjoys, with the verdict first and nothing to fetch."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from tasks.artifacts import MODEL_CARD, atomic
from tasks.context import Context


def write(context: Context, evaluation: Mapping[str, Any], features: Mapping[str, Any]) -> None:
    """Write `reports/model_card.html`."""
    decision = evaluation["decision"]
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in decision["reasons"])
    text = f"<!doctype html><meta charset=utf-8><h1>{context.params.project.name}</h1><ul>{reasons}</ul>"
    with atomic(context.path(MODEL_CARD)) as scratch:
        scratch.write_text(text, encoding="utf-8")
