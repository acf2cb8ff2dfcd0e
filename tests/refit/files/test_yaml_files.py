"""YAML that is damaged, hostile or merely odd is refused in one line that names the file, the line and the limit."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from refit.errors import RefitError, UserError
from refit.files.artifacts import read_json
from refit.files.yaml_files import MOST_BYTES, parse_yaml, read_value, read_yaml
from refit.runtime import run_file

# Each alias names the ten before it: a billion values where all are written out.
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a control character", "a: 1\nb: \x01", r"params\.yaml line 2: character \\x01 is not allowed"),
        ("a C1 control", "a: \x9b2J", r"params\.yaml line 1: character \\x9b"),
        ("deep lists", "a: " + "[" * 10_000, "line 1: nested deeper than 60 levels, the limit"),
        ("deep mappings", "a: " + "{a: " * 5_000, "line 1: nested deeper than 60 levels, the limit"),
        ("deep blocks", "".join(" " * n + "a:\n" for n in range(300)), "nested deeper than 60 levels, the limit"),
        ("a set", "a: !!set {b}", "line 1: .*plain YAML only, no tags"),
        ("a set of all", "!!set {b}", "line 1: .*plain YAML only, no tags"),
        ("an ordered mapping", "a: !!omap [b: 1]", "plain YAML only, no tags"),
        ("an object", "a: !!python/object/apply:os.system [true]", "plain YAML only, no tags"),
        ("a wrong tag", "a: !!int b", "line 1: 'b' is not of the kind 'int'; quote it"),
        ("a wrong boolean", "a: !!bool b", "line 1: 'b' is not of the kind 'bool'; quote it"),
        ("ten thousand digits", "a: " + "9" * 10_000, "line 1: a number of 10,000 characters; at most 60 are read"),
        ("hexadecimal digits", "a: 0x" + "f" * 9_000, "line 1: a number of 9,002 characters"),
        ("many decimals", "a: 1." + "1" * 9_000, "line 1: a number of 9,002 characters"),
        ("a bomb of anchors", BOMB, "line 6: more than 400,000 values with every alias written out, the limit"),
        ("a list within itself", "a: &a [*a]", "line 1: an anchor holds itself"),
        ("a mapping within itself", "a: &a {b: *a}", "line 1: an anchor holds itself"),
        ("an alias of nothing", "a: *b", "line 1: not valid YAML: found undefined alias"),
        ("a torn text", "a: 'x", "line 1: not valid YAML"),
        ("no mapping", "- 1", "holds a list, a mapping of sections was expected"),
    ],
    ids=lambda value: value if isinstance(value, str) and re.fullmatch(r"[\w ]{1,30}", value) else "",
)
def test_a_hostile_file_is_refused_at_once_and_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(UserError, match=said) as error:
        read_yaml(path)
    assert time.process_time() - began < 5, name
    assert "\n" not in str(error.value)
    assert "unicode string" not in str(error.value)
    with pytest.raises(UserError):
        run_file.params_of(tmp_path)


def test_a_huge_file_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(UserError, match="larger than 4 MB, the limit"):
        read_yaml(path)


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml", "run.yaml"):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match=rf"{name} cannot be read \(Is a directory\)"):
            read_yaml(tmp_path / name)
    (tmp_path / "data.json").mkdir()
    with pytest.raises(RefitError, match=r"data.json cannot be read \(Is a directory\)"):
        read_json(tmp_path / "data.json")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to become")
def test_a_file_of_somebody_else_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "params.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)|does not exist"):
            read_yaml(path)
    finally:
        os.seteuid(0)


def test_anchors_of_an_honest_file_are_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: *a", "x") == {"a": [1, 2], "b": [1, 2], "c": [1, 2]}
    assert read_value("[1, {a: 2.5e-3}, 0x1f, null, yes, 2024-01-01]") == [
        1,
        {"a": 2.5e-3},
        31,
        None,
        True,
        "2024-01-01",
    ]


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, "{", '"\\ud800', "\x00"], ids=range(5))
def test_hostile_json_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RefitError, match="is not valid JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("stages: 5", "stages holds int, a mapping of stages was expected"),
        ("{}", "stages holds NoneType"),
        ("stages: {train: 5}", "stages.train holds int, a mapping was expected"),
        ("stages: {train: null}", "stages.train holds NoneType"),
        ("stages: {train: {cmd: x, params: 5}}", "stages.train.params holds int, a list was expected"),
        ("stages: {train: {cmd: x, deps: {a: b}}}", "stages.train.deps holds dict, a list was expected"),
    ],
)
def test_a_dvc_file_of_another_shape_is_the_users_mistake(project: Path, content: str, said: str) -> None:
    (project / "dvc.yaml").write_text(content)
    with pytest.raises(UserError, match=rf"dvc\.yaml: {said}"):
        run_file.params_of(project)


def test_a_bad_byte_in_dvcignore_is_named(project: Path) -> None:
    from refit.cli.inspection import status

    (project / ".dvcignore").write_bytes(b".refit\n\xff\n")
    with pytest.raises(UserError, match=r"\.dvcignore line 2 is not UTF-8 text; save it as UTF-8"):
        status(project)
