"""Odd tables: each becomes a project of which a first run goes through, or is refused by one line that helps."""

from __future__ import annotations

import gzip
import random
import re
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from quick import quick

from refit.config import parse
from refit.errors import UserError
from refit.files.artifacts import TABLE
from refit.files.yaml_files import read_yaml
from refit.new_project import project_folder
from refit.new_project.project_folder import create
from refit.new_project.table_reading import Hints, read_table
from refit.runtime.context import Context
from refit.sources import sources
from tasks import featurize, ingest, validate

Rows = list[list[str]]
ROWS = 160


def rows(count: int = ROWS, *, days: int = 6) -> Rows:
    """A plain table: a header, then a key, a day, two features and a label in each row."""
    chance = random.Random(7)
    body = [
        [
            f"r{n}",
            str(date(2024, 1, 1) + timedelta(n * days // count)),
            f"{chance.gauss(0, 1):.3f}",
            "abc"[n % 3],
            "01"[n % 2],
        ]
        for n in range(count)
    ]
    return [["id", "day", "x", "kind", "y"], *body]


def with_column(table: Rows, name: str, value: Callable[[int], str]) -> Rows:
    return [[*row[:-1], name if n == 0 else value(n - 1), row[-1]] for n, row in enumerate(table)]


def text(table: Rows, mark: str = ",", end: str = "\n") -> str:
    return end.join(mark.join(row) for row in table) + end


def with_days(table: Rows, written: Callable[[int], str]) -> Rows:
    return [row if n == 0 else [row[0], written(n - 1), *row[2:]] for n, row in enumerate(table)]


def with_labels(table: Rows, label: Callable[[int, str], str]) -> Rows:
    return [row if n == 0 else [*row[:-1], label(n - 1, row[-1])] for n, row in enumerate(table)]


def with_more(table: Rows, is_chosen: Callable[[int], bool], more: str = "more") -> Rows:
    """The table with one value too many in some lines."""
    return [[*row, more] if is_chosen(n) else row for n, row in enumerate(table)]


def timeless(table: Rows) -> Rows:
    return [[row[0], *row[2:]] for row in table]


ACCEPTED = {
    "plain": rows(),
    "without_a_time": rows(),
    "empty_column": with_column(rows(), "note", lambda _: ""),
    "empty_column_named_like_sql": with_column(rows(), "select", lambda _: "NULL"),
    "column_empty_in_one_period": with_column(rows(), "late", lambda n: "" if n > 100 else str(n)),
    "column_of_one_value": with_column(rows(), "same", lambda _: "7"),
    "column_of_hardly_any_value": with_column(rows(), "rare", lambda n: "x" if n == 3 else ""),
    "labels_partly_missing": with_labels(rows(), lambda n, label: label if n % 5 else ""),
    "header_with_line_breaks": with_column(rows(), '"a\nb"', str),
    "quoted_quotes": with_column(rows(), "said", lambda n: f'"he said ""{n}"", then left"'),
    "a_few_ragged_rows": with_more(rows(), lambda n: n in (50, 90)),
    "totals_at_the_end": [*rows(), ["Total", "", "123.4", "", ""]],
    "question_marks_for_missing": with_column(rows(), "size", lambda n: "?" if n % 4 == 0 else str(n * 1.5)),
    "backslash_n_for_missing": with_column(rows(), "size", lambda n: "\\N" if n % 4 == 0 else str(n)),
    "names_with_quotes_and_dots": with_column(rows(), '"it\'s ""a.b"" %"', str),
    "labels_of_three_classes": with_labels(rows(), lambda n, _: "pqr"[n * 7 % 3]),
    "delimiter_after_each_line": with_more(rows(), lambda _: True, ""),
    "german_label": with_labels(rows(), lambda _, label: {"0": "nein", "1": "ja"}[label]),
    "a_second_time": with_column(rows(), "seen", lambda n: f"2023-02-0{n % 9 + 1} 10:00:00"),
    "months_in_words": with_days(rows(), lambda n: f"{n % 7 + 1:02d}-Jan-2024"),
}
# The others are tried without a time, as one batch: each batch of a period costs a validation.
TIMED = ("plain", "column_empty_in_one_period", "a_few_ragged_rows", "totals_at_the_end", "a_second_time")
TIMED += ("months_in_words",)
# Read in the same way as another of them: among the long tests.
ALIKE = ("carriage_returns", "column_of_one_value", "german_label", "no_final_line_end", "pipes")
ALIKE += ("question_marks_for_missing", "without_a_time", "a_second_time", "column_of_hardly_any_value")
ALIKE += ("comments_above", "backslash_n_for_missing", "empty_column", "empty_column_named_like_sql")
ALIKE += ("header_with_line_breaks", "lines_that_end_at_carriage_returns", "quoted_quotes", "tabs", "titles_above")
WRITTEN = {
    "byte_order_mark": "\ufeff" + text(timeless(rows())),
    "carriage_returns": text(timeless(rows()), end="\r\n"),
    "tabs": text(timeless(rows()), mark="\t"),
    "pipes": text(timeless(rows()), mark="|"),
    "comments_above": "# exported by hand\n# on a Monday\n" + text(timeless(rows())),
    "titles_above": "Orders;;;;\n\n" + text(timeless(rows()), mark=";"),
    "no_final_line_end": text(timeless(rows())).rstrip("\n"),
    "lines_that_end_at_carriage_returns": text(timeless(rows()), end="\r"),
    "semicolons_and_decimal_commas": text([[*r[:2], r[2].replace(".", ","), *r[3:]] for r in rows()], mark=";"),
} | {name: text(table if name in TIMED else timeless(table)) for name, table in ACCEPTED.items()}
REFUSED = {
    "one_column": (text([row[-1:] for row in rows()]), "no columns other than key, label and times"),
    "labels_of_one_class": (text(with_labels(rows(), lambda *_: "0")), "it has 1 different value"),
    "labels_all_missing": (text(with_labels(rows(), lambda *_: "")), "it has 0 different values"),
    "two_rows": (text(rows(2)), "spans 3 days"),
    "five_rows_without_a_time": (text(timeless(rows(5))), "5 rows; to learn from some and judge on others, 80"),
    "keys_twice": (text([["id" if n == 0 else "k", *row[1:]] for n, row in enumerate(rows())]), "share a key"),
    "label_is_the_key": (text([row[1:] for row in rows()]), "it is the label"),
    "future_times": (text(with_days(rows(), lambda n: f"2094-01-{n % 28 + 1:02d}")), "lies in the future"),
    "delimiter_after_each_row": (
        text(with_more(rows(), lambda n: n > 0, "")),
        r"no rows below its header: all 160 lines .*line 2: expected 5 columns, found 6",
    ),
    "many_ragged_rows": (text(with_more(rows(), lambda n: n % 5 == 4)), "expected 5 columns, found 6"),
    "header_alone": ("id,day,x,y\n", "a header and no rows"),
    "nothing": ("", "is empty"),
    "words_that_say_neither": (
        text(with_labels(rows(), lambda _, label: {"0": "red", "1": "blue"}[label])),
        "--positive 'red', or the other",
    ),
}
KEYS = {"keys_twice": ("id",), "label_is_the_key": ("y",)}


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / f"{name}.csv"
    path.write_bytes(content.encode())
    return path


def run_to_features(project: Path) -> int:
    """The first three stages, as a first run does them; the features' rows."""
    import pyarrow.parquet as pq

    context = Context(project, parse(read_yaml(project / "params.yaml")))
    for stage in (ingest, validate, featurize):
        stage.run(context)
    return int(pq.read_metadata(project / TABLE).num_rows)


@pytest.mark.ci
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE)) for name in sorted(WRITTEN)]
)
def test_an_odd_table_that_init_accepts_runs(tmp_path: Path, name: str) -> None:
    time = "day" if name == "a_second_time" else None
    create(tmp_path / "p", csv=write(tmp_path, name, WRITTEN[name]), time=time, label="y", key=())
    assert run_to_features(tmp_path / "p") > ROWS / 2


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_odd_table_that_could_not_run_is_refused_by_one_line(tmp_path: Path, name: str) -> None:
    content, words = REFUSED[name]
    with pytest.raises(UserError) as refusal:
        create(tmp_path / "p", csv=write(tmp_path, name, content), time=None, label="y", key=KEYS.get(name, ()))
    assert re.search(words, str(refusal.value)), str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "p").exists()


def test_what_was_in_the_folder_stays_where_init_refuses(tmp_path: Path) -> None:
    (tmp_path / "p/raw").mkdir(parents=True)
    (tmp_path / "p/raw/mine.txt").write_text("mine")
    content, _ = REFUSED["many_ragged_rows"]
    with pytest.raises(UserError, match="would be refused by a first run"):
        create(tmp_path / "p", csv=write(tmp_path, "t", content), time=None, label="y", key=())
    assert [path.name for path in sorted((tmp_path / "p").rglob("*"))] == ["raw", "mine.txt"]


def test_what_others_write_into_the_folder_meanwhile_stays_where_init_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p").mkdir()

    def look(folder: Path, *_: object) -> None:
        (folder / "notes").mkdir()
        (folder / "notes/mine.txt").write_text("mine")
        raise UserError("a stage refuses it")

    monkeypatch.setattr(project_folder, "look", look)
    with pytest.raises(UserError, match="a stage refuses it"):
        create(tmp_path / "p", csv=write(tmp_path, "plain", text(rows())), time="day", label="y", key=("id",))
    assert [each.name for each in (tmp_path / "p").iterdir()] == ["notes"]
    assert (tmp_path / "p/notes/mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_readme_and_what_git_is_to_pass_over_stay_and_a_pipeline_of_somebody_else_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path, "plain", text(rows()))
    (tmp_path / "p").mkdir()
    (tmp_path / "p/README.md").write_text("mine")
    (tmp_path / "p/.gitignore").write_text("*.tmp\n/data/\n")
    (tmp_path / "p/dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(UserError, match=r"holds a project already \(dvc.yaml\)"):
        create(tmp_path / "p", csv=source, time="day", label="y", key=("id",))
    (tmp_path / "p/dvc.yaml").unlink()
    create(tmp_path / "p", csv=source, time="day", label="y", key=("id",))
    assert (tmp_path / "p/README.md").read_text() == "mine"
    ignored = (tmp_path / "p/.gitignore").read_text().splitlines()
    assert ignored[:2] == ["*.tmp", "/data/"]
    assert sorted(ignored[1:]) == sorted([*project_folder.IGNORED.splitlines(), "/raw/"])


def zipped(path: Path, content: str) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.writestr("inner.csv", content)
    return path.with_suffix(".zip")


def gzipped(path: Path, content: str) -> Path:
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(content.encode()))
    return path.with_suffix(".csv.gz")


def named_txt(path: Path, content: str) -> Path:
    path.with_suffix(".txt").write_text(content)
    return path.with_suffix(".txt")


@pytest.mark.parametrize("pack", quick([zipped, gzipped, named_txt]))
def test_a_table_is_read_from_an_archive_or_under_another_name(
    tmp_path: Path, pack: Callable[[Path, str], Path]
) -> None:
    create(tmp_path / "p", csv=pack(tmp_path / "t", WRITTEN["without_a_time"]), time=None, label="y", key=())
    assert run_to_features(tmp_path / "p") > ROWS / 2


@pytest.mark.parametrize(
    "names", quick([["sales.2024.csv", "sales.2025.csv"], ["v1.0.txt", "v1.1.txt"], ["a.01", "a.02"]])
)
def test_the_next_file_is_read_whatever_points_the_name_of_the_first_has(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    first = tmp_path / names[0]
    first.write_text(WRITTEN["without_a_time"])
    create(tmp_path / "p", csv=first, time=None, label="y", key=())
    (tmp_path / "p/raw" / names[1]).touch()
    source = parse(read_yaml(tmp_path / "p/params.yaml")).ingest.sources["table"]
    assert [file.path.name for file in sources.find(tmp_path / "p", source, "table")] == [*names]


@pytest.mark.parametrize("encoding", ["no-such", "hex", "rot13", "undefined", "idna"])
def test_what_is_no_encoding_of_text_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(UserError, match=f"--encoding {encoding}: unknown; utf-8, cp1252"):
        create(
            tmp_path / "p", csv=write(tmp_path, "t", text(rows())), time=None, label="y", key=(), hints=Hints(encoding)
        )


@pytest.mark.parametrize(
    "encoding",
    [
        "cp1252",
        "utf-16",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("utf-16-le", "utf-16-be", "utf-32", "utf-32-be")),
    ],
)
def test_a_table_of_another_encoding_is_refused_with_the_option_that_reads_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(
        text(with_column(timeless(rows()), "town", lambda n: "Köln" if n % 2 else "Bonn")).encode(encoding)
    )
    with pytest.raises(UserError, match=f"--encoding {encoding}(,|$)"):
        create(tmp_path / "p", csv=path, time=None, label="y", key=())
    create(tmp_path / "p", csv=path, time=None, label="y", key=(), hints=Hints(encoding=encoding))
    assert run_to_features(tmp_path / "p") > ROWS / 2


def test_times_written_in_several_ways_are_shown_with_their_shares_and_read_as_is_said(tmp_path: Path) -> None:
    days = [date(2024, 1, 1) + timedelta(n // 27) for n in range(ROWS)]
    written = [f"{day:%d/%m/%Y}" if n % 4 else f"{day}" for n, day in enumerate(days)]
    written[7] = written[9] = "soon"
    path = write(tmp_path, "t", text(with_days(rows(), lambda n: written[n])))
    with pytest.raises(UserError) as refusal:
        create(tmp_path / "p", csv=path, time="day", label="y", key=())
    assert "73.8% as %d/%m/%Y, 25.0% as %Y-%m-%d, and 'soon' as none" in str(refusal.value)
    assert "--time-format '%d/%m/%Y' --time-format '%Y-%m-%d'" in str(refusal.value)
    both = Hints(time_formats=("%d/%m/%Y", "%Y-%m-%d"))
    create(tmp_path / "p", csv=path, time="day", label="y", key=(), hints=both)
    assert run_to_features(tmp_path / "p") > ROWS / 2
    with pytest.raises(UserError, match=r"reads 40 of the 160 values of day \(25.0%\), and not '04/01/2024'"):
        create(tmp_path / "q", csv=path, time="day", label="y", key=(), hints=Hints(time_formats=("%Y-%m-%d",)))


def test_a_split_tells_of_rows_that_say_no_part_and_not_of_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ["train", "train", "dev", "test", ""]
    path = write(tmp_path, "t", text(with_column(timeless(rows()), "part", lambda n: parts[n % 5])))
    create(tmp_path / "p", csv=path, time=None, label="y", key=("id",), hints=Hints(split="part")).print()
    said = capsys.readouterr().out
    assert "split   part: 64 train, 32 validation, 32 test, 32 say none and are left out" in said
    assert "  left" not in said


@pytest.mark.slow
def test_a_text_that_is_said_to_mean_missing_is_said_to_be_read_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = with_column(rows(), "z", lambda n: f"{n / 7:.2f}" if n % 9 else "?")
    create(
        tmp_path / "p",
        csv=write(tmp_path, "t", text(table)),
        time="day",
        label="y",
        key=("id",),
        hints=Hints(missing=("?",)),
    ).print()
    assert "  missing '?': read as missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"id": 1, "y": 0},\n{"id": 2, "y": 1}]', "t.csv is JSON"),
        ('{"id": 1, "y": 0}\n{"id": 2, "y": 1}', "t.csv is JSON"),
        ("[\n  {\n", "t.csv is JSON"),
    ],
)
def test_a_table_in_json_is_called_so(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        create(tmp_path / "p", csv=write(tmp_path, "t", content), time=None, label="y", key=())


def test_a_header_in_brackets_is_no_json(tmp_path: Path) -> None:
    table = timeless(rows())
    path = write(tmp_path, "t", text([[f"[{name}]" for name in table[0]], *table[1:]]))
    create(tmp_path / "p", csv=path, time=None, label="[y]", key=("[id]",))


@pytest.mark.slow
def test_a_column_says_which_rows_to_learn_from(tmp_path: Path) -> None:
    parts = ["Train", "Train", "train", "dev", "TEST"]
    path = write(tmp_path, "t", text(with_column(timeless(rows()), "part", lambda n: parts[n % 5])))
    create(tmp_path / "p", csv=path, time=None, label="y", key=(), hints=Hints(split="part"))
    run_to_features(tmp_path / "p")
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "p" / TABLE)
    counts = {each["values"]: each["counts"] for each in table["window"].value_counts().to_pylist()}
    assert counts == {"train": 96, "validation": 32, "test": 32}
    assert "part" not in table.column_names
    odd = write(tmp_path, "o", text(with_column(timeless(rows()), "part", lambda n: "ab"[n % 2])))
    with pytest.raises(UserError, match=r"--split part: it holds 'a', 'b'; train, validation \(or dev\) and test"):
        create(tmp_path / "q", csv=odd, time=None, label="y", key=(), hints=Hints(split="part"))


@pytest.mark.slow
def test_files_may_be_changed_between_init_and_the_first_run(tmp_path: Path) -> None:
    """What init has tried is no batch of the project: it would be held against the files as they are then."""
    project = tmp_path / "p"
    create(project, csv=write(tmp_path, "t", text(rows())), time=None, label="y", key=())
    assert not (project / "data").exists()
    raw = project / "raw/t.csv"
    raw.write_text("\n".join(raw.read_text().splitlines()[:-3]) + "\n")
    assert run_to_features(project) > ROWS / 2


def test_decimals_with_more_whole_digits_than_a_number_holds_are_codes(tmp_path: Path) -> None:
    table = with_column(rows(), "z", lambda n: f"9007199254740993.{n % 9}")
    (tmp_path / "t.csv").write_text(text(table))
    reading = read_table(tmp_path / "t.csv", key=("id",), time="day", label="y")
    [found] = [column for column in reading.columns if column.name == "z"]
    assert (found.type, found.code) == ("text", True)


@pytest.mark.parametrize(
    ("odd", "others"),
    quick([("12.5", "1.{:03d},50"), ("1.234", "{:d},50"), ("0.234", "1.{:03d},50"), ("0.234", "1.{:03d}")]),
)
def test_a_number_with_a_point_among_decimal_commas_is_put_aside_and_not_read_many_times_as_large(
    tmp_path: Path, odd: str, others: str
) -> None:
    plain = timeless(rows())
    table = with_column(plain, "price", lambda n: odd if n == 70 else f"{n},5" if n % 2 else others.format(n))
    (tmp_path / "t.csv").write_text(text(table, mark=";"))
    create(tmp_path / "p", csv=tmp_path / "t.csv", time=None, label="y", key=("id",))
    run_to_features(tmp_path / "p")
    features = duckdb.sql(f"select id, price from '{tmp_path / 'p' / TABLE}'").fetchall()
    assert "r70" not in dict(features)
    assert dict(features)["r71"] == 71.5
    assert dict(features)["r72"] == float(others.format(72).replace(".", "").replace(",", "."))
