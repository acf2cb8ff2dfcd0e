"""Limits on the unpacked size of raw files: a few kilobytes can unpack to more than a machine has."""

from __future__ import annotations

from dataclasses import dataclass

from refit.config import SourceParams
from refit.errors import UserError

_MB, _GB = 1 << 20, 1 << 30
_SMALL = 256 * _MB  # what unpacks to less than this is accepted, whatever its ratio


@dataclass(frozen=True)
class Limits:
    """Limits in bytes, and the params that raise them."""

    line: int = 16 * _MB
    unpacked: int = 64 * _GB
    ratio: float = 200
    where: str | None = None  # the source's path in params; None if no params can raise the limits

    def check_line(self, name: str, length: int, what: str) -> None:
        """Refuse a line, a record, a value or a footer that is too long.

        Raises:
            UserError: it is too long.
        """
        if length > self.line:
            raise UserError(
                f"{name}: {what} is longer than {self.line / _MB:,g} MB; correct the file{self._raise('max_line_mb')}"
            )

    def check_unpacked(self, name: str, packed: int, unpacked: int) -> None:
        """Refuse a file that grows too much when it is unpacked.

        Raises:
            UserError: it exceeds a limit.
        """
        if unpacked > self.unpacked:
            raise UserError(
                f"{name} unpacks to more than {self.unpacked / _GB:,g} GB; split the file"
                f"{self._raise('max_unpacked_gb')}"
            )
        if unpacked > max(_SMALL, self.ratio * packed):
            raise UserError(
                f"{name} unpacks to more than {self.ratio:,g} times its {packed:,} bytes; fetch the right file"
                f"{self._raise('max_unpacked_ratio')}"
            )

    def _raise(self, param: str) -> str:
        return f", or raise {self.where}.{param} in params.yaml" if self.where else ""


def of(source: SourceParams, where: str) -> Limits:
    """The limits that a source declares."""
    return Limits(
        line=int(source.max_line_mb * _MB),
        unpacked=int(source.max_unpacked_gb * _GB),
        ratio=source.max_unpacked_ratio,
        where=where,
    )


DEFAULT = Limits()
