"""The packages that a project itself asks for: recorded with each model, and compared where a model is loaded."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from refit.errors import RefitError, UserError, first_line

__all__ = ["RECORD", "check_recorded", "installed", "unchecked"]

RECORD = "requirements.txt"  # in the folder `provenance` of a stored version: NAME==VERSION, as it was trained with
_INSTALL = "uv pip install -r requirements.txt, or what the project's pyproject.toml asks for"
_SECRET = re.compile(r"//[^/@\s]*@")  # the user and password of a URL
_OPTIONS = re.compile(r"(?<=\S)\s+--[a-z].*$")  # of one requirement, such as --hash
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tgz")


def installed(project: Path) -> list[str]:
    """The releases of the packages in the project's `requirements.txt`, or else its `pyproject.toml`: `NAME==VERSION`.

    Refit's own repository, which is a project too, has none beyond Refit's. What names no package is passed over
    (`unchecked`).

    Raises:
        UserError: one is not installed in a release that the file allows, or a line is no requirement.
    """
    releases = set[str]()
    for requirement, where in _requirements(project):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            state = "not installed" if version is None else f"{version} here"
            raise UserError(f"{where} asks for {requirement}, which is {state}; next to Refit: {_INSTALL}")
        releases.add(f"{requirement.name}=={version}")
    return sorted(releases)


def check_recorded(stored: Path, name: str) -> list[str]:
    """Compare the packages that a stored version was trained with to those here; returns what differs, one line each.

    Args:
        stored: the version's folder, after its files were checked.
        name: of the version, for messages.

    Raises:
        RefitError: a package is not installed here, and the version has code of the project, which may need it.
    """
    record = stored / "provenance" / RECORD
    trained = [line.split("==") for line in record.read_text(encoding="utf-8").split()] if record.is_file() else []
    here = {package: _version(package) for package, _ in trained}
    missing = [f"{package}=={version}" for package, version in trained if here[package] is None]
    if missing and any(stored.rglob("*.py")):
        raise RefitError(
            f"{name} was trained with {', '.join(missing)} of its project, not installed here; next to Refit: "
            f"uv pip install {' '.join(missing)}"
        )
    different = [
        f"{package} {version} ({f'here {here[package]}' if here[package] else 'not installed here'})"
        for package, version in trained
        if here[package] != version
    ]
    return [f"{name} was trained with {', '.join(different)}: its predictions may differ"] if different else []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _requirements(project: Path) -> Iterator[tuple[Requirement, str]]:
    if (path := project / "requirements.txt").is_file():
        for number, text in _lines(path):
            if not (text.startswith("-") or _names_no_package(text)):
                yield _parse(text, f"requirements.txt, line {number},"), f"requirements.txt, line {number},"
    elif (path := project / "pyproject.toml").is_file():
        try:
            own = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"pyproject.toml is not valid TOML: {error}; correct it") from None
        if own.get("name") != "refit":
            for text in own.get("dependencies", ()):
                yield _parse(text, "pyproject.toml"), "pyproject.toml"


def unchecked(project: Path) -> str | None:
    """One line that names what pip would install from `requirements.txt` and `installed` cannot check; None if nothing.

    These are other files, folders, wheels and repositories: the line does not say which package it is.
    """
    path = project / "requirements.txt"
    lines = [
        f"line {number} ({_SECRET.sub('//', text)})"
        for number, text in (_lines(path) if path.is_file() else ())
        if _names_no_package(text) or re.match(r"(-r|-e|--requirement|--editable)\b", text)
    ]
    if not lines:
        return None
    return (
        f"requirements.txt: {', '.join(lines)}: no package is named, so none is checked or recorded with a model; "
        "write NAME @ URL, or name the package on a line of its own"
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines as pip reads them, numbered: continued ones joined, without comments and options such as `--hash`."""
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    first, joined = 0, ""
    lines = data.decode(encoding, errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        first = first or number
        goes_on = line.endswith("\\") and not line.lstrip().startswith("#") and number < len(lines)
        joined += " " + line.rstrip("\\")
        if goes_on:
            continue
        if text := _OPTIONS.sub("", re.sub(r"\s#.*$", "", joined).strip()):
            yield first, text
        first, joined = 0, ""


def _names_no_package(text: str) -> bool:
    """Whether a line is a URL, or the path of a folder or of an archive, or known only to the environment."""
    if re.match(r"-|\w[\w.-]*\s*(\[[^]]*\])?\s*@", text):  # an option, or NAME @ URL
        return False
    what = text.partition(";")[0].split("[")[0].strip()
    return what.startswith(".") or what.endswith(_ARCHIVES) or any(each in what for each in ("/", "\\", "${"))


def _parse(text: str, where: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise UserError(
            f"{where} {text!r}: {first_line(error)}; a requirement such as 'holidays>=0.80' was expected"
        ) from None
