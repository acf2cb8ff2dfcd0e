"""Which versions wait for a person's approval, and whether a model's promotions need one: read from its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from registry.ledger import MOVES, Entry

AWAIT, LIFT = "await", "lift"  # actions: the gate said yes and a person has not answered; no approval is needed now
UNTIL = "until"  # among the digests of an AWAIT line: when the wait ends
BY_HAND = ":by hand:"  # in the key of a line that `refit promote` wrote
OVERTAKEN = "the approval came too late: "  # how the reason begins where another version was promoted meanwhile
_ANSWER = ":answer"  # end of the key of a line that answers an AWAIT line
_ABOUT_ONE_VERSION = (AWAIT, "refuse", *MOVES)


@dataclass(frozen=True)
class Wait:
    """A version that the gate would promote and that a person has not answered yet."""

    line: Entry

    @property
    def until(self) -> datetime:
        """When the wait ends; for a damaged line, when it began."""
        try:
            return datetime.fromisoformat(str(self.line.digests[UNTIL]))
        except (KeyError, ValueError):
            return datetime.fromisoformat(self.line.at)

    @property
    def version(self) -> str:
        return self.line.to_version

    @property
    def answer_key(self) -> str:
        """The key of the ledger's line for the answer: there is at most one."""
        return f"{self.line.key}{_ANSWER}"

    @property
    def state(self) -> str:
        """What it waits for, until when, and how to answer."""
        number, compared = self.version, self.line.from_version
        against = f"version {compared}" if compared else "the baseline"
        return (
            f"waits for a person's approval until {self.until:%Y-%m-%dT%H:%M:%SZ} (judged against {against}): "
            f'`refit approve {number} --why "..."` or `refit reject {number} --why "..."`'
        )

    def __str__(self) -> str:
        return f"version {self.version} {self.state}"


def is_required(entries: Sequence[Entry]) -> bool:
    """Whether a model's promotions need approval by its ledger: a version had to wait, and no person lifted that since.

    A checkout whose params ask for none cannot promote without a person then. A version that is judged again while it
    waits, and keeps the time of its wait, requires nothing of others.
    """
    required = False
    until: dict[str, str | None] = {}  # when the wait of each version ends
    for each in entries:
        if each.action == LIFT:
            required = False
        elif each.action == AWAIT and (UNTIL not in each.digests or until.get(each.to_version) != each.digests[UNTIL]):
            required, until[each.to_version] = True, each.digests.get(UNTIL)
    return required


def waits(entries: Sequence[Entry]) -> list[Wait]:
    """The versions that wait, oldest first: those whose last line is an AWAIT line.

    A refused `refit promote` without a reason answers nothing, nor does an approval whose check of the model failed.
    """
    about = [each for each in entries if each.action in _ABOUT_ONE_VERSION and not _answers_nothing(each)]
    last = {each.to_version: each for each in about}
    return [Wait(each) for each in about if each.action == AWAIT and last[each.to_version] is each]


def _answers_nothing(line: Entry) -> bool:
    """Whether a line records only that a promotion by hand was refused, or that an approved model failed its check."""
    return line.action == "refuse" and (BY_HAND in line.key or f"{_ANSWER}:" in line.key)


def wait_of(entries: Sequence[Entry], version: str) -> Wait | None:
    """The wait of a version; None if it does not wait."""
    return next((each for each in waits(entries) if each.version == version), None)


def rejection(entries: Sequence[Entry], version: str, model_digest: str | None = None) -> Entry | None:
    """The line by which a person refused a version, or the same model under another number, or did not answer in time.

    It stands whatever is judged and whether or not approval is required, until a person promotes the version. None if
    it waits again, or was refused only because it was compared with an earlier champion.
    """
    same, line = {version}, None  # numbers of the same model
    for each in entries:
        if model_digest is not None and each.digests.get("model_digest") == model_digest:
            same.add(each.to_version)
        if each.to_version not in same or _answers_nothing(each):
            continue
        if each.action in (AWAIT, *MOVES):
            line = None
        elif each.action == "refuse" and each.key.endswith(_ANSWER):
            line = None if each.reasons[-1:] and each.reasons[-1].startswith(OVERTAKEN) else each
    return line


def outcome_of(entries: Sequence[Entry], line: Entry) -> Entry:
    """What became of a decision: its line, or the answer to it where it had to wait for one."""
    after = entries[entries.index(line) + 1 :] if line.action == AWAIT and line in entries else ()
    about = [each for each in after if each.to_version == line.to_version and not _answers_nothing(each)]
    return next((each for each in about if each.action in ("refuse", *MOVES)), line)
