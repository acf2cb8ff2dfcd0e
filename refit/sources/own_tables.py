"""Reads a source by a class in a Python file of the project: a service, a queue's archive, a format of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from refit.config import SourceParams, file_of, nearest
from refit.errors import RefitError, UserError, failure
from refit.extras import not_installed
from refit.runtime import project_code
from refit.sources.source_files import ROWS, numbered
from refit.sources.tables import Change, CheckHeader, batch_of

if TYPE_CHECKING:
    import pyarrow as pa

_VERBS = ("identify", "changes_since", "read")


class OwnSource(Protocol):
    """What a class of the project has to be. It is made with the section of its source in the params."""

    def identify(self) -> str:
        """Return where the source stands: another text whenever its rows have changed. It is stored: no secrets."""

    def changes_since(self, position: str) -> bool:
        """Return whether rows after a position are all that changed; if not, all rows are read and compared."""

    def read(self, position: str | None) -> Iterable[Any]:
        """Yield the rows after a position, of None all: lists of dicts, or pyarrow tables or record batches."""


class OwnTable:
    """A source that a class of the project reads. What came between `identify` and `read` is read again, not twice."""

    def __init__(self, project: Path, source: SourceParams, where: str) -> None:
        self._project = project
        self._source = source
        self._where = where
        self._made: OwnSource | None = None

    def identify(self) -> str:
        """What the class says, which has to be a text."""
        with self._errors("identify"):
            position = self._own().identify()
        if not isinstance(position, str) or not position:
            raise UserError(
                f"{self._source.kind}: identify() gives {type(position).__name__} {position!r}; it has to be a text "
                f"that changes with the rows ({self._where}.kind)"
            )
        return position

    def changes_since(self, position: str | None) -> Change:
        """All of it, unless the class says that rows after the position are all that changed."""
        now = self.identify()
        with self._errors("changes_since"):
            goes_on = position is not None and self._own().changes_since(position) is True
        return Change(now, since=position if goes_on else None)

    def read(self, change: Change, check_header: CheckHeader) -> Iterator[pa.RecordBatch]:
        """The rows of the class as record batches, after checking that they have the declared columns."""
        line = 1
        with self._errors("read"):
            for given in self._own().read(change.since):
                for batch in self._batches(given, check_header):
                    yield numbered(batch, line)
                    line += batch.num_rows
        if line == 1 and change.since is None:
            raise UserError(f"{self._source.kind}: read(None) gives no rows; at least one was expected ({self._where})")

    def _batches(self, given: Any, check_header: CheckHeader) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        columns = list(self._source.columns)
        if isinstance(given, pa.Table | pa.RecordBatch):
            check_header(given.schema.names)
            table = pa.Table.from_batches([given]) if isinstance(given, pa.RecordBatch) else given
            yield from table.select(columns).combine_chunks().to_batches(ROWS)
            return
        if not isinstance(given, Sequence) or not all(isinstance(row, Mapping) for row in given):
            raise UserError(
                f"{self._source.kind}: read() yields {type(given).__name__}; yield lists of dicts, or pyarrow tables "
                f"({self._where}.kind)"
            )
        for row in given:
            if row.keys() != self._source.columns.keys():
                check_header(list(row))
        for start in range(0, len(given), ROWS):
            rows = [[row[name] for name in columns] for row in given[start : start + ROWS]]
            yield batch_of(columns, rows, self._source)

    def _own(self) -> OwnSource:
        if self._made is None:
            file, name = str(file_of(self._source.kind)), self._source.kind.rpartition(":")[2]
            module = project_code.load(self._project, file, f"{self._where}.kind")
            if not isinstance(own := getattr(module, name, None), type):
                have = [each for each, value in vars(module).items() if isinstance(value, type)]
                raise UserError(f"{file} has no class {name}{nearest(name, have)} ({self._where}.kind)")
            if missing := [verb for verb in _VERBS if not callable(getattr(own, verb, None))]:
                raise UserError(f"{self._source.kind} has no method {', '.join(missing)} ({self._where}.kind)")
            self._made = own(self._source)
        return self._made

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        """Report a failure of the class in one line, with the line of its file."""
        try:
            yield
        except (RefitError, GeneratorExit):
            raise
        except Exception as error:
            if missing := not_installed(error, self._source.kind, f"{self._where}.kind"):
                raise missing from None
            path = str((self._project / str(file_of(self._source.kind))).resolve())
            raise UserError(
                f"{self._source.kind}: {verb}() failed: {failure(error, path)}; correct it ({self._where}.kind)"
            ) from error
