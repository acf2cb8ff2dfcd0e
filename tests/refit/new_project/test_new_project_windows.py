"""The test window of a new project is long enough for the gate and the drift watch."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from refit.config import parse
from refit.new_project.new_params import params_of
from refit.new_project.table_reading import read_table


def test_a_test_window_has_rows_and_days_enough_for_the_gate_to_judge_by(tmp_path: Path) -> None:
    daily = [f"{n},{date(2024, 1, 1) + timedelta(n)},{n % 9},{n % 2}" for n in range(400)]
    (tmp_path / "t.csv").write_text("\n".join(["id,day,x,y", *daily]) + "\n")
    params = parse(params_of("p", read_table(tmp_path / "t.csv", key=(), time=None, label="y")))
    assert params.featurize.windows is not None
    assert params.featurize.windows.test == 3, "months, of 30 rows each"
    assert params.evaluate.gate.min_rows == 46
    rare = [f"{n},{row.split(',', 1)[1][:-1]}{int(n % 100 == 0)}" for n, row in enumerate(daily * 9)]
    (tmp_path / "t.csv").write_text("\n".join(["id,day,x,y", *rare]) + "\n")
    params = parse(params_of("p", read_table(tmp_path / "t.csv", key=(), time=None, label="y")))
    assert params.featurize.windows is not None
    assert params.featurize.windows.test == 3, "months, of 270 rows each of which 1 % are positive"
    weekly = [f"{n},{date(2024, 1, 1) + timedelta(n // 14)},{n % 9},{n % 2}" for n in range(147 * 14)]
    (tmp_path / "t.csv").write_text("\n".join(["id,day,x,y", *weekly]) + "\n")
    params = parse(params_of("p", read_table(tmp_path / "t.csv", key=(), time=None, label="y")))
    assert params.featurize.windows is not None
    assert params.featurize.windows.test == 5, "weeks of 21, though the rows of two could be judged"
    assert params.evaluate.gate.cluster == "day"
    hourly = [f"2024-{1 + n // 672:02d}-{1 + n // 24 % 28:02d} {n % 24:02d}:00,{n * 37 % 101}" for n in range(672 * 3)]
    (tmp_path / "t.csv").write_text("\n".join(["at,y", *hourly]) + "\n")
    params = parse(params_of("p", read_table(tmp_path / "t.csv", key=(), time=None, label="y", horizons=(1,))))
    assert params.featurize.windows is not None
    assert (params.ingest.period, params.featurize.windows.test, params.evaluate.gate.cluster) == ("week", 4, "day")
