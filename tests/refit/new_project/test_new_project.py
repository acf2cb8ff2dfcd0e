"""A stranger's CSV becomes a project that runs, or a line that says what is open."""

from __future__ import annotations

import os
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import drive, states
from PIL import Image

from refit.config import parse
from refit.errors import UserError
from refit.files.yaml_files import parse_yaml, read_yaml
from refit.new_project.given_params import describe_completed, raw_paths
from refit.new_project.new_params import params_of
from refit.new_project.project_folder import create
from refit.new_project.table_reading import Hints, read_table

# Awkward on purpose: capitals, spaces, a reserved word, a semicolon, a missing value, a label in words.
LITTLE = {"evaluate.permutation_rows": 200, "evaluate.explain.rows": 0}  # what takes long and is tested elsewhere
HEADER = "Customer ID;Signed up;Total Charges;window;Plan;Has Left"


def table(path: Path, rows: int = 1500) -> Path:
    lines = [HEADER]
    for n in range(rows):
        day = f"2023-{n * 12 // rows + 1:02d}-{n % 28 + 1:02d}"
        charge, plan = ("" if n % 97 == 0 else f"{(n * 37) % 200 / 2}"), ("basic", "plus", "pro")[n % 3]
        left = "Yes" if (n * 37) % 200 > 140 - 30 * (n % 3) + (n * 13) % 40 else "No"
        lines.append(f"C{n:05d};{day};{charge};{n % 7};{plan};{left}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_a_csv_with_awkward_names_runs_from_an_empty_folder(tmp_path: Path) -> None:
    create(tmp_path / "churn", csv=table(tmp_path / "customers.csv"), time="Signed up", label="Has Left", key=())
    told = drive(tmp_path / "churn")
    assert told["rows"] == {"read": 1500, "accepted": 1375, "quarantined": 0, "pending": 125}, "December is not over"
    assert told["model"]["name"] == "churn"
    assert told["metrics"]["roc_auc"] > 0.8
    assert states(drive(tmp_path / "churn")) == ["unchanged"] * 6


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["00501", "10001", "94105"], "text"),
        (["0101.21", "0102.21", "1905.90"], "text"),
        (["12E4", "1E5", "1200"], "text"),
        (["+4915112345678", "+4917098765432"], "text"),
        (["9007199254740993", "9007199254740992", "7"], "text"),
        (["12345678901234567890", "12345678901234567891"], "text"),
        (["-9223372036854775808", "9223372036854775807"], "text"),
        (["18446744073709551615", "1"], "text"),
        (["1_000", "2_000"], "text"),
        (["0x1F", "0x2F"], "text"),
        (["\uff11\uff12", "\uff13"], "text"),
        (["inf", "Infinity"], "text"),
        (["0", "10", "+5", "-7", "9007199254740992"], "integer"),
        (["0.5", "10", "-0.25", "1e-05", "1.5e+20"], "number"),
        (["0", "00.5", "2024-01-05"] * 10 + ["7"] * 1000, "text"),
    ],
)
def test_digits_that_a_number_would_not_hold_as_written_are_text(tmp_path: Path, values: list[str], kind: str) -> None:
    rows = [f"{n},2024-01-{n % 28 + 1:02d},{values[n % len(values)]},{n % 2}" for n in range(2 * len(values) + 30)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["id,day,code,late", *rows]) + "\n", encoding="utf-8")
    reading = read_table(path, key=("id",), time=None, label="late")
    assert {column.name: column.type for column in reading.columns}["code"] == kind


def test_rows_whose_names_are_one_number_are_named_by_text(tmp_path: Path) -> None:
    rows = [f"{n}.{zero},2024-01-{n % 28 + 1:02d},{n % 2}" for n in range(40) for zero in ("1", "10")]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["version,day,late", *rows]) + "\n")
    reading = read_table(path, key=("version",), time=None, label="late")
    assert reading.columns[0].type == "text"


@pytest.mark.slow
def test_init_says_which_digits_it_took_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{n:06d},2024-0{n // 28 + 1}-{n % 28 + 1:02d},{n % 7},{n % 2}" for n in range(200)]
    (tmp_path / "t.csv").write_text("\n".join(["account,day,x,late", *rows]) + "\n")
    create(tmp_path / "p", csv=tmp_path / "t.csv", time=None, label="late", key=()).print()
    assert parse(read_yaml(tmp_path / "p/params.yaml")).ingest.sources["table"].columns["account"] == "text"
    assert "codes   account: text" in capsys.readouterr().out


@pytest.mark.ci
def test_roles_are_guessed_where_only_one_column_fits(tmp_path: Path) -> None:
    create(tmp_path / "demo", csv=table(tmp_path / "t.csv"), time=None, label=None, key=())
    params = parse(read_yaml(tmp_path / "demo/params.yaml"))
    source = params.ingest.sources["table"]
    assert source.key == ("Customer ID",)
    assert source.event_time == '"Signed up"'
    assert params.featurize.label.column == "has_left"
    assert source.columns["Total Charges"] == "number"


@pytest.mark.parametrize(
    ("text", "roles", "words"),
    [
        (
            "a,b\n1,2\n",
            {},
            "has no column with just two values to predict; name the one to predict with --label COLUMN",
        ),
        ("x,kind\n" + "1,red\n2,blue\n3,red\n" * 40, {}, "(a table without a label: Refit's docs/unsupervised.md)"),
        ("", {}, "is empty"),
        ("id,day,late\n", {}, "a header and no rows"),
        ('id,day,late\n1,"2024-01-01,0\n2,2024-06-02,1\n', {}, "t.csv line 2: a quote opened here is not closed"),
        ("id,day,late,late\n1,2024-01-01,0,1\n2,2024-06-02,1,0\n", {}, "a column is there twice ('late', 'late'"),
        ("id,day,late,Late\n1,2024-01-01,0,1\n2,2024-06-02,1,0\n", {}, "a column is there twice ('late', 'Late'"),
        ("0.5,-1e-3,late\n1,2,0\n", {}, "its first line holds numbers (0.5) and no names"),
        ("id,day,late\n1,2024-01-01,0\n", {"time": "dya"}, "did you mean 'day'"),
        ("id,day,late\n1,2024-01-01,0\n2,2024-01-02,1\n", {}, "spans 1 days"),
        ("id,day,kind\n1,2024-01-01,a\n2,2024-06-02,b\n3,2024-06-03,c\n", {"label": "kind"}, "3 different values"),
        (
            "id,day,late\n1,2024-01-01,0\n1,2024-06-02,1\n",
            {"key": ("id",)},
            "an earlier one: 1, such as 1; add a column",
        ),
        (
            "id,day,late\n7,2024-01-01,0\n7,2024-01-01,0\n8,2024-06-02,1\n",
            {"key": ("id",)},
            "such as 7; remove these copies",
        ),
        ("a,day,x,z\n1,2024-01-01,0,1\n2,2024-06-02,1,0\n3,2024-06-03,1,1\n", {}, "several columns"),
        ("id,day,late\n1,2094-01-01,0\n2,2094-06-02,1\n", {}, "lies in the future"),
    ],
)
def test_what_a_table_leaves_open_is_said_and_nothing_is_made(
    tmp_path: Path, text: str, roles: dict[str, object], words: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    given = {"time": None, "label": None, "key": ()} | roles
    with pytest.raises(UserError, match=re.escape(words)):
        create(tmp_path / "demo", csv=tmp_path / "t.csv", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_a_column_of_percentages_is_read_as_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = table(tmp_path / "t.csv").read_text().splitlines()
    more = [f"{line};{n % 40}.5 %" for n, line in enumerate(lines[1:])]
    (tmp_path / "t.csv").write_text("\n".join([f"{lines[0]};Discount", *more]) + "\n")
    create(tmp_path / "Rabatt für März", csv=tmp_path / "t.csv", time=None, label=None, key=()).print()
    assert "  numbers Discount: read without their signs and commas" in capsys.readouterr().out
    params = parse(read_yaml(tmp_path / "Rabatt für März/params.yaml"))
    assert params.project.name == "rabatt_fur_marz"
    source = params.ingest.sources["table"]
    assert source.columns["Discount"] == "text"
    number = """try_cast(replace(replace("Discount", '%', ''), ',', '.') as double)"""
    assert source.events["cases"].columns["discount"] == number


@pytest.mark.slow
def test_the_line_to_type_next_works_in_a_folder_whose_name_needs_quotes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create(tmp_path / "my project", csv=None, time=None, label=None, key=()).print()
    said = capsys.readouterr()
    assert f"cd '{tmp_path}/my project' && refit run" in said.out
    assert "DVC" not in said.out + said.err, "what it says of itself is not what a user should do next"


@pytest.mark.slow
def test_the_example_has_the_zone_that_is_named(tmp_path: Path) -> None:
    create(tmp_path / "demo", csv=None, time=None, label=None, key=(), hints=Hints(zone="Europe/Berlin"))
    assert read_yaml(tmp_path / "demo/params.yaml")["project"]["timezone"] == "Europe/Berlin"
    assert "Europe/Berlin" in (tmp_path / "demo/prefect.yaml").read_text()


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--time", {"time": "renewal"}),
        ("--label", {"label": "churned"}),
        ("--key", {"key": ("id",)}),
        ("--horizons", {"horizons": (1, 7)}),
        ("--time-format", {"hints": Hints(time_formats=("%d/%m/%Y",))}),
        ("--positive", {"hints": Hints(positive="yes")}),
        ("--split", {"hints": Hints(split="part")}),
        ("--missing", {"hints": Hints(missing=("?",))}),
        ("--encoding", {"hints": Hints("cp1252")}),
    ],
)
def test_an_option_that_describes_a_table_is_refused_without_a_table(
    tmp_path: Path, option: str, given: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=f"{option} describes a table of your own: name its file by --csv"):
        create(tmp_path / "demo", **{"csv": None, "time": None, "label": None, "key": (), **given})
    assert not (tmp_path / "demo").exists()


def test_params_of_ones_own_that_are_wrong_leave_the_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("project: {nane: demo}\n")
    with pytest.raises(UserError, match="did you mean 'name'"):
        create(tmp_path, csv=None, time=None, label=None, key=())
    with pytest.raises(UserError, match=r"--timezone: .*params.yaml is there and says so itself"):
        create(tmp_path, csv=None, time=None, label=None, key=(), hints=Hints(zone="Europe/Berlin"))
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("pictures/*/*.png", ("pictures",)),
        ("raw/2024/*.csv", ("raw/2024",)),
        ("table.csv", ("table.csv",)),
        ("*.csv", ()),
        ("../elsewhere/*.csv", ()),
        ("/data/*.csv", ()),
        ("${DATA:-raw}/*.csv", ()),
    ],
)
def test_the_first_stage_depends_on_what_the_sources_read_in_the_project(path: str, raw: tuple[str, ...]) -> None:
    source = {"kind": "files", "path": path, "columns": {"id": "text", "y": "integer"}, "key": ["id"]}
    params = {
        "project": {"name": "demo"},
        "ingest": {"sources": {"rows": source}},
        "featurize": {"label": {"source": "rows", "column": "y"}},
        "train": {"learners": [{"name": "base", "kind": "baseline"}]},
    }
    assert raw_paths(parse(params)) == raw


def test_params_whose_rows_are_all_of_one_moment_are_told_what_divides_them(tmp_path: Path, root: Path) -> None:
    """The complete example of pictures in the docs says so itself."""
    text = (root / "docs/networks.md").read_text()
    example = next(part for part in text.split("```")[1::2] if "pictures/*/*.png" in part).removeprefix("yaml\n")
    without = re.sub(r"\n  split:.*|, cluster: row", "", example)
    for written, notes in ((example, 0), (without, 2)):
        params = parse(parse_yaml(written, "params.yaml"))
        told = [text for about, text in describe_completed(tmp_path, params).notes if about == "note"]
        assert len(told) == notes
    assert "set featurize.split, such as {test: 0.2, validation: 0.2}" in told[0]
    assert "set evaluate.gate.cluster: row if each counts for itself" in told[1]


@pytest.mark.slow
def test_the_pictures_of_the_page_on_networks_become_a_project_with_a_champion(root: Path, tmp_path: Path) -> None:
    page = (root / "docs/networks.md").read_text()
    block = next(each for each in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if each.startswith("project:"))
    random = np.random.default_rng(0)
    for kind in ("across", "upright", "none"):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for number in range(400):
            pixels = random.integers(0, 60, (28, 28)).astype(np.uint8)
            line = int(random.integers(2, 24))
            pixels[line : line + 2] += 150 * (kind == "across")
            pixels[:, line : line + 2] += 150 * (kind == "upright")
            Image.fromarray(pixels).save(tmp_path / f"pictures/{kind}/{number}.png")
    (tmp_path / "params.yaml").write_text(block)
    assert raw_paths(parse(read_yaml(tmp_path / "params.yaml"))) == ("pictures",)
    create(tmp_path, csv=None, time=None, label=None, key=())
    summary = drive(tmp_path)
    assert summary["model"]["alias"] == "champion", summary["decision"]


def test_a_missing_file_and_a_taken_folder_are_refused(tmp_path: Path, finished: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        create(tmp_path / "demo", csv=tmp_path / "no.csv", time=None, label=None, key=())
    with pytest.raises(UserError, match="holds a project already"):
        create(finished, csv=None, time=None, label=None, key=())
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match="is a pipe or a socket"):
        create(tmp_path / "demo", csv=tmp_path / "pipe.csv", time=None, label=None, key=())


@pytest.mark.parametrize("name", ["reports/figures", "data/features", "models/candidate", "reports/plots"])
def test_a_folder_with_files_that_a_run_would_replace_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "demo" / name).mkdir(parents=True)
    (tmp_path / "demo" / name / "mine.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=f"holds {name}, which a run would replace"):
        create(tmp_path / "demo", csv=None, time=None, label=None, key=())
    assert (tmp_path / "demo" / name / "mine.png").read_bytes() == b"mine"
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [name.partition("/")[0]]


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_of_the_same_name_in_raw_is_never_overwritten(tmp_path: Path, linked: bool) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "demo").mkdir()
    mine = tmp_path / "theirs/rows.csv"
    mine.write_text("mine")
    (tmp_path / "demo/raw").symlink_to(tmp_path / "theirs") if linked else mine.parent.rename(tmp_path / "demo/raw")
    csv = table(tmp_path / "rows.csv")
    with pytest.raises(UserError, match=r"raw/rows\.csv is there already, with other content"):
        create(tmp_path / "demo", csv=csv, time="Signed up", label="Has Left", key=("Customer ID",))
    assert (tmp_path / "demo/raw/rows.csv").read_text() == "mine"


def test_the_readmes_command_is_one_that_init_takes(root: Path) -> None:
    line = next(
        line for line in (root / "README.md").read_text().splitlines() if "refit init" in line and "--csv" in line
    )
    assert set(re.findall(r"--[a-z]+", line)) <= {"--csv", "--time", "--label", "--key", "--horizons"}


@pytest.mark.parametrize(
    ("values", "task", "learner"),
    [
        (["yes", "no"], "binary", "HistGradientBoostingClassifier"),
        (["red", "green", "blue"], "multiclass", "HistGradientBoostingClassifier"),
        ([*["yes", "no"] * 295, *(f"rare {n}" for n in range(10))], "multiclass", "HistGradientBoostingClassifier"),
        ([str(value) for value in range(1, 6)], "multiclass", "HistGradientBoostingClassifier"),
        ([f"{value / 7:.2f}" for value in range(1, 60)], "regression", "HistGradientBoostingRegressor"),
    ],
)
def test_the_task_is_seen_from_the_labels_values(tmp_path: Path, values: list[str], task: str, learner: str) -> None:
    rows = [f"{n},{date(2024, 1, 1) + timedelta(days=n % 150)},{n % 9},{values[n % len(values)]}" for n in range(600)]
    (tmp_path / "t.csv").write_text("\n".join(["id,at,x,y", *rows]) + "\n")
    params = params_of("p", read_table(tmp_path / "t.csv", time=None, label="y", key=()))
    assert params["train"]["task"] == task
    assert params["train"]["learners"][-1]["kind"].endswith(learner)
    assert parse(params).evaluate.gate.max_loss > 0


def test_a_label_with_a_different_text_in_nearly_every_row_is_refused(tmp_path: Path) -> None:
    rows = [f"{n},{date(2024, 1, 1) + timedelta(days=n % 150)},name {n % 300}" for n in range(600)]
    (tmp_path / "t.csv").write_text("\n".join(["id,at,y", *rows]) + "\n")
    with pytest.raises(UserError, match=r"has 300 different values; a label has two, .* 100 classes, or many num"):
        create(tmp_path / "p", csv=tmp_path / "t.csv", time=None, label="y", key=())


REVIEWS = 'It was {0} from the first\nminute, ""{0}"" to its end {1}'


@pytest.mark.slow
def test_a_table_without_a_time_or_a_key_is_judged_on_rows_drawn_from_it_and_its_texts_are_read(tmp_path: Path) -> None:
    rows = [f'"{REVIEWS.format(("great", "awful")[n % 2], n)}",{("pos", "neg")[n % 2]}' for n in range(300)]
    (tmp_path / "t.csv").write_text("\n".join(["review,sentiment", *rows]) + "\n")
    create(tmp_path / "p", csv=tmp_path / "t.csv", time=None, label="sentiment", key=())
    told = drive(tmp_path / "p", overrides=LITTLE)
    assert told["rows"] == {"read": 300, "accepted": 300, "quarantined": 0, "pending": 0}
    assert told["metrics"]["roc_auc"] == 1
    assert told["model"]["alias"] == "champion"
    params = parse(read_yaml(tmp_path / "p/params.yaml"))
    assert params.featurize.text == ("review",)
    assert params.ingest.sources["table"].key == ("file", "line")


def test_rows_that_no_column_names_are_named_by_their_line_and_folds_hold_enough_of_few(tmp_path: Path) -> None:
    rows = [f"{n // 2},2024-{n % 5 + 1:02d}-01,{n % 3},{n % 2}" for n in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(["invoice,day,x,y", *rows, *rows]) + "\n")
    assert read_table(tmp_path / "t.csv", key=(), time=None, label="y").key == ()
    for count, folds in ((80, 2), (120, 4)):
        (tmp_path / "t.csv").write_text("\n".join(["x,y", *(f"{n % 3},{n % 2}" for n in range(count))]) + "\n")
        found = read_table(tmp_path / "t.csv", key=(), time=None, label="y")
        asked = parse(params_of("p", found)).train.cross_validation
        assert asked is not None
        assert asked.folds == folds
    (tmp_path / "t.csv").write_text("x,y\n" + "1,0\n2,1\n" * 20)
    with pytest.raises(UserError, match="has 40 rows; to learn from some and judge on others, 80 are needed"):
        read_table(tmp_path / "t.csv", key=(), time=None, label="y")


def test_the_rows_of_a_period_may_vary_as_much_as_they_do_in_the_table(tmp_path: Path) -> None:
    days = [day for day, rows in enumerate((1, 40, 50, 5, 60, 40, 3)) for _ in range(rows)]
    rows = [f"{n},2024-01-{day + 1:02d} 07:00,{n % 9},{n % 2}" for n, day in enumerate(days)]
    (tmp_path / "t.csv").write_text("\n".join(["id,at,x,y", *rows]) + "\n")
    params = parse(params_of("p", read_table(tmp_path / "t.csv", key=(), time=None, label="y")))
    band = params.validate_.rows_band
    assert (band.low, band.high) == (0.078, 2.7), "a day of 5 after 40 and 50, and 60 after a mean of 32"
    assert params.ingest.complete_within_hours == 6, "hours of a day, which its first row would end by 24"
