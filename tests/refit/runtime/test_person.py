"""Who is recorded for what was done: the user and the machine, and the name that a person gives."""

from __future__ import annotations

import pytest

from refit.runtime.context import person


def test_a_person_who_shares_a_user_is_named_by_a_variable_in_one_line_of_limited_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REFIT_WHO", raising=False)
    account = person()
    assert "@" in account
    monkeypatch.setenv("REFIT_WHO", "  ")
    assert person() == account
    monkeypatch.setenv("REFIT_WHO", "Ann <ann@example.org>")
    assert person() == f"Ann <ann@example.org> ({account})", "the account stays, as anybody may set the variable"
    monkeypatch.setenv("REFIT_WHO", "Ann\n\x1b[31m\u202e" + "x" * 1000)
    assert person().startswith("Ann\\n\\x1b[31m\\u202ex")
    assert len(person()) == 100 + len(f" ({account})")
