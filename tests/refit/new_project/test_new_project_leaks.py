"""What gives a label away is said by `refit init` and on the model card; what merely predicts it well is not."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from refit.evaluation.giveaways import giveaways
from refit.files.yaml_files import read_yaml
from refit.new_project.project_folder import create
from refit.new_project.table_reading import read_table

SHARED = os.environ.get("REFIT_SHARED_DATA", "")
ROWS = 4000


def found(label: np.ndarray, **columns: np.ndarray) -> list[str]:
    """What gives a label away, in words."""
    table = pa.table({**columns, "label": label})
    texts = [name for name in columns if pa.types.is_string(table.schema.field(name).type)]
    numbers = {name: table[name].cast(pa.float64()) for name in columns if name not in texts}
    table = pa.table({**numbers, **{name: table[name] for name in texts}, "label": table["label"]})
    return [str(each) for each in giveaways(table, list(numbers), texts)]


def test_each_cause_of_a_failure_gives_it_away_and_a_good_predictor_does_not() -> None:
    chance = np.random.default_rng(0)
    causes = {name: (chance.random(ROWS) < share).astype(int) for name, share in (("heat", 0.02), ("power", 0.03))}
    failed = np.maximum(causes["heat"], causes["power"])
    torque = failed * 2.0 + chance.normal(size=ROWS)
    told = found(failed, torque=torque, **causes)
    assert [line.split()[0] for line in told] == ["heat", "power"]
    assert "where it is 1, the label is 1 in 87 of 87 rows" in told[0]


def test_a_column_that_says_the_classes_otherwise_gives_them_away() -> None:
    chance = np.random.default_rng(0)
    label = chance.choice(["a", "b", "c"], ROWS)
    code = np.char.add("code ", label)
    [told] = found(label, code=code, noise=chance.normal(size=ROWS))
    assert told == "code alone tells 100.0% of the labels right"


def test_an_amount_or_a_text_that_only_one_class_has_gives_it_away() -> None:
    chance = np.random.default_rng(0)
    returned = (chance.random(ROWS) < 0.3).astype(int)
    refund = np.where(returned, chance.uniform(0.5, 90, ROWS).round(2), 0.0)
    reasons = np.array([f"because of {n // 2}" if label else None for n, label in enumerate(returned)])
    told = found(returned, refund=refund, reason=pa.array(reasons, pa.string()), city=chance.choice(list("abcd"), ROWS))
    assert told == ["refund alone tells 100.0% of the labels right", "reason alone tells 100.0% of the labels right"]


def test_rows_that_are_counted_are_no_feature_in_whatever_order_they_come() -> None:
    chance = np.random.default_rng(0)
    [told] = found(chance.integers(0, 2, ROWS), number=chance.permutation(ROWS) + 17, size=chance.integers(0, 99, ROWS))
    assert told.startswith("number counts the rows")


def test_parts_of_a_number_give_it_away_together_and_most_of_it_does_not() -> None:
    chance = np.random.default_rng(0)
    casual, registered = chance.poisson(30, ROWS) * chance.integers(1, 9, ROWS), chance.poisson(150, ROWS)
    noise = chance.normal(size=ROWS)
    total = (casual + registered).astype(float)
    assert found(total, noise=noise, casual=casual, registered=registered) == [
        "casual, registered together add up to the label"
    ]
    assert found(total + 99 * chance.normal(size=ROWS), noise=noise, casual=casual) == []


def test_factors_of_a_number_and_the_number_in_another_unit_give_it_away() -> None:
    chance = np.random.default_rng(0)
    price, pieces = chance.uniform(1, 9, ROWS).round(2), chance.integers(1, 9, ROWS)
    assert found(price * pieces, price=price, pieces=pieces) == ["price, pieces multiply or divide to the label"]
    [told] = found(price, cents=price * 100)
    assert told.startswith("cents alone explains 99.99% of the label's variance")


def failures(path: Path) -> Path:
    chance = np.random.default_rng(1)
    lines = ["id,torque,heat,fail"]
    for n in range(600):
        heat = int(chance.random() < 0.1)
        lines.append(f"m{n},{chance.normal():.3f},{heat},{int(heat or chance.random() < 0.2)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_init_warns_of_what_gives_the_label_away_and_says_how_to_leave_it_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create(tmp_path / "p", csv=failures(tmp_path / "t.csv"), time=None, label="fail", key=()).print()
    said = capsys.readouterr().out
    assert "leak?   heat where it is 1, the label is 1 in" in said
    assert "featurize.exclude: [heat]" in said


def test_init_leaves_out_a_column_that_tells_every_label_and_says_how_to_keep_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = failures(tmp_path / "t.csv").read_text().splitlines()
    coded = [lines[0] + ",code", *(f"{line},{'X' if line.endswith('1') else 'Y'}" for line in lines[1:])]
    (tmp_path / "t.csv").write_text("\n".join(coded) + "\n")
    create(tmp_path / "p", csv=tmp_path / "t.csv", time=None, label="fail", key=()).print()
    said = capsys.readouterr().out
    assert "leak    code alone tells 100.0% of the labels right\n          left out: likely known" in said
    assert "Leave it out: featurize.exclude: [heat]" in said, "a weaker suspicion stays advice"
    text = (tmp_path / "p/params.yaml").read_text()
    assert read_yaml(tmp_path / "p/params.yaml")["featurize"]["exclude"] == ["code"]
    assert "# `exclude`: code alone tells 100.0% of the labels right: likely known only with the label" in text


def test_a_column_that_tells_every_label_stays_where_it_is_the_only_feature(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,code,fail\n" + "".join(f"m{n},c{n % 2},{n % 2}\n" for n in range(400)))
    create(tmp_path / "p", csv=tmp_path / "t.csv", time=None, label="fail", key=())
    assert "exclude" not in read_yaml(tmp_path / "p/params.yaml")["featurize"]


def test_a_forecast_s_label_does_not_give_itself_away_and_a_copy_of_it_does(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{date(2024, 1, 1) + timedelta(n)},{n % 7 + n / 10},{2 * (n % 7 + n / 10)}" for n in range(90)]
    path.write_text("\n".join(["day,sold,doubled", *lines]) + "\n")
    reading = read_table(path, key=(), time="day", label="sold", horizons=(1,))
    assert [each.features for each in reading.giveaways] == [("doubled",)]


@pytest.mark.skipif(not SHARED, reason="needs REFIT_SHARED_DATA")
def test_real_tables_give_nothing_away_but_their_counters_and_what_adds_up_to_the_number(tmp_path: Path) -> None:
    folder = Path(SHARED)
    with zipfile.ZipFile(folder / "bike_sharing/Bike-Sharing-Dataset.zip") as archive:
        (tmp_path / "day.csv").write_bytes(archive.read("day.csv"))
    reading = read_table(tmp_path / "day.csv", key=(), time="dteday", label="cnt", horizons=(1,))
    assert [(each.features, each.reason) for each in reading.giveaways] == [
        (("casual", "registered"), "together add up to the label")
    ]
    expected = {
        "telco_churn/Telco-Customer-Churn.csv": ("Churn", []),
        "vehicle_claim_fraud/fraud_oracle.csv": ("FraudFound_P", ["PolicyNumber"]),
        "wholesale_customers/Wholesale customers data.csv": ("Channel", []),
    }
    for name, (label, features) in expected.items():
        rows = list(csv.DictReader(io.StringIO((folder / name).read_text())))
        columns = {column: [row[column] for row in rows] for column in rows[0] if column not in (label, "customerID")}
        told = found(np.array([row[label] for row in rows]), **{c: as_values(v) for c, v in columns.items()})
        assert [line.split()[0] for line in told] == features, name


def as_values(texts: list[str]) -> np.ndarray:
    """Numbers where all are."""
    try:
        return np.array([float(text or "nan") for text in texts])
    except ValueError:
        return np.array(texts)
