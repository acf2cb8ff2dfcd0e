"""Generates rows in place of a published file that is missing, so that a project runs before its data is fetched."""

from __future__ import annotations

from pathlib import Path

from refit.config import SourceParams
from refit.errors import RefitError, UserError
from refit.files.artifacts import STATE, atomic_folder, sha256
from refit.runtime import project_code
from refit.sources.source_files import SourceFile

FOLDER = STATE / "stand_ins"


def files(project: Path, source: SourceParams, where: str, generated_in: Path) -> list[SourceFile]:
    """The files that the project's script writes in place of missing ones; written once, to the state folder of
    `generated_in`.

    Raises:
        UserError: there is no such script, it fails, or it writes no file of that name.
    """
    script = str(source.stand_in)
    pattern = Path(source.path).name
    digest = sha256(project / script)[:16] if (project / script).is_file() else ""
    folder = generated_in / FOLDER / digest
    if not digest or not folder.is_dir():
        _write(project, script, folder, f"{where}.stand_in")
    paths = sorted(folder.rglob(pattern) if source.format == "images" else folder.glob(pattern))
    if not paths:
        written = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise UserError(f"{script} wrote {written}, and no {pattern}; its write(folder) has to ({where}.path)")
    return [SourceFile(path, f"{script}:{path.name}", stand_in=digest) for path in paths]


def folder_of(path: Path) -> Path:
    """The folder that holds everything which was generated together with a file.

    >>> folder_of(Path("p/.refit/stand_ins/12ab/cats/1.png")).as_posix()
    'p/.refit/stand_ins/12ab'
    """
    return next(parent for parent in path.parents if parent.parent.name == FOLDER.name)


def _write(project: Path, script: str, folder: Path, where: str) -> None:
    try:
        write = getattr(project_code.load(project, script, where), "write", None)
        if not callable(write):
            raise UserError(f"{script} has no function write(folder), which writes the files ({where})")
        with atomic_folder(folder) as scratch:
            write(scratch)
    except RefitError:
        raise
    except (Exception, SystemExit) as error:
        said = (str(error).splitlines() or [""])[0]
        raise UserError(f"{script} failed: {type(error).__name__}: {said}; correct it ({where})") from None
