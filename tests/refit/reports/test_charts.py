"""A chart is drawn once, by one library, for the card and as a file: themed, described, and self-contained."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from refit.config.column_types import ArrayColumn
from refit.evaluation.holdout import holdout
from refit.learners import Spec
from refit.problems import problem_of
from refit.reports import home_page
from refit.reports.drawing import (
    BAD,
    COLOURS,
    GOOD,
    HALF,
    dots,
    drawn,
    legend,
    list_down,
    name_columns,
    new_figure,
    styled,
    tip,
)
from refit.reports.home_page import Overview
from refit.reports.model_card import image_charts
from refit.reports.model_card.charts import charts_of
from refit.reports.palette import DARK, LIGHT, PRINT
from refit.reports.svg import standalone
from refit.runtime.stage_code import PACKAGES, SOURCE_ROOT, stage_code

REPORTS = SOURCE_ROOT / "refit/reports"
TASKS = ("binary", "multiclass", "regression", "forecast")
ODD = "$x_1$ <script>&\"'"


def figure(text: str = ODD) -> Any:
    figure, axes = new_figure(text, (HALF, 3))
    (line,) = axes.plot([0, 1], [0.123456789, 1], color=COLOURS["champion"], label=text)
    tip(line, text)
    dots(axes, [(0, 0), (1, 1)], COLOURS["candidate"])
    axes.scatter([0.5], [0.5], color=COLOURS["baseline"])
    list_down(axes, [text, "b"])
    legend(axes)
    return figure


def svg(name: str = "odd", description: str = ODD) -> str:
    with styled():
        return drawn(figure(), name, description).svg


def test_texts_from_data_print_as_themselves_in_titles_ticks_legends_tips_and_descriptions() -> None:
    root = ElementTree.fromstring(svg())
    texts = [element.text for element in root.iter("text")]
    assert texts.count(ODD) == 3  # title, legend, tick
    assert [element.text for element in root.iter("title")] == [ODD, ODD, f"{ODD}: 0"]  # title, tip, dot
    assert [element.text for element in root.iter("desc")] == [ODD]
    assert not list(root.iter("script"))


def test_a_chart_has_a_title_a_description_and_ids_of_its_own() -> None:
    root = ElementTree.fromstring(svg("mine"))
    assert root.attrib["role"] == "img"
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    assert all(name.startswith("mine-") for name in ids)
    assert set(root.attrib["aria-labelledby"].split()) <= set(ids)
    links = {element.attrib["href"] for element in root.iter() if "href" in element.attrib}
    assert links
    assert links <= {f"#{name}" for name in ids}


def test_a_chart_takes_its_colours_from_the_page_and_a_file_brings_them_for_light_and_dark() -> None:
    chart = svg(description="")
    assert {"var(--champion)", "var(--candidate)", "var(--baseline)", "var(--ink)"} <= set(
        re.findall(r"var\(--[\w-]+\)", chart)
    )
    assert not re.findall(r"#[0-9a-fA-F]{3,6}\b", chart)
    assert not re.findall(r"url\(|@import|https?:|<style|<metadata|font-family", chart)
    file = standalone(chart)
    ElementTree.fromstring(file)
    style = file[file.index("<style>") : file.index("</style>")]
    light, dark = style.split("@media(prefers-color-scheme:dark)")
    for name in LIGHT:
        assert f"--{name}:{LIGHT[name]}" in light
        assert f"--{name}:{DARK[name]}" in dark
    assert re.sub(r" xmlns=\S+(?= )|<style>.*</style>", "", file).strip() == chart


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2, from 1 to 21."""

    def light(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
        return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_texts_and_marks_stand_out_from_what_is_behind_them(theme: str) -> None:
    colours = {"light": LIGHT, "dark": DARK, "print": PRINT}[theme]
    softs = {"good": "good-soft", "warn": "warn-soft", "bad": "bad-soft"}
    behind = [(text, ground) for text in ("ink", "quiet", "candidate") for ground in ("paper", "panel", "faint")]
    behind += [("ink", soft) for soft in softs.values()] + list(softs.items())
    behind += [(text, ground) for text in softs for ground in ("paper", "panel")]
    assert [pair for pair in behind if contrast(*(colours[each] for each in pair)) < 4.5] == []
    marks = [(role, ground) for role in (*COLOURS, "good", "warn", "bad", "quiet") for ground in ("paper", "panel")]
    assert [pair for pair in marks if contrast(*(colours[each] for each in pair)) < 3] == []
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_a_reader_who_points_at_a_value_is_told_it() -> None:
    with styled():
        lines, axes = new_figure("t", (HALF, 3))
        axes.plot([1, 2], [0.5, 0.25], color=COLOURS["candidate"], label="ours")
        axes.plot([0, 3], [0, 1], ":", color=COLOURS["baseline"], label="chance")
        axes.set(xlabel="recall", ylabel="precision")
        days, axes = new_figure("d", (HALF, 3))
        axes.plot([0, 1, 2], [0.1, 0.2, 0.3], color=COLOURS["candidate"])
        name_columns(axes, ["Mon", "Tue", "Wed"], 2)
        bars, axes = new_figure("b", (HALF, 3))
        axes.barh([0, 1], [0.75, 12345.0], color=COLOURS["candidate"])
        list_down(axes, ["first", "second"])
        bins, axes = new_figure("h", (HALF, 3))
        axes.stairs([3, 4], [0, 0.5, 1], color=COLOURS["candidate"], label="now")
        times, axes = new_figure("s", (HALF, 3))
        axes.plot([datetime(2024, 5, 1, 6, tzinfo=UTC), datetime(2024, 5, 2, tzinfo=UTC)], [0.5, 0.75], label="ours")
        told = [titles(drawn(each, "x", "d").svg) for each in (lines, days, bars, bins, times)]
    assert told[0] == ["t", "ours, recall 1: precision 0.5", "ours, recall 2: precision 0.25"]
    assert told[1] == ["d", "Mon: 0.1", "Tue: 0.2", "Wed: 0.3"]
    assert told[2] == ["b", "first: 0.75", "second: 12,345"]
    assert told[3] == ["h", "now, 0 to 0.5: 3", "now, 0.5 to 1: 4"]
    assert told[4] == ["s", "ours, 2024-05-01 06:00: 0.5", "ours, 2024-05-02 00:00: 0.75"]


def titles(chart: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(chart).iter("title")]


def test_a_value_appears_where_it_is_drawn() -> None:
    with styled():
        figure, axes = new_figure("t", (HALF, 3))
        axes.plot([0, 1], [0, 1], color=COLOURS["candidate"], label="ours")
        root = ElementTree.fromstring(drawn(figure, "x", "d").svg)
    (line,) = [
        path for path in root.iter("path") if "var(--candidate)" in path.get("style", "") and "L" in path.get("d", "")
    ][:1]
    ends = re.findall(r"[ML]([-\d.]+) ([-\d.]+)", line.get("d", ""))
    circles = [(circle.get("cx", ""), circle.get("cy", "")) for circle in root.iter("circle")]
    for drawn_at, pointed_at in zip(ends, circles, strict=True):
        assert [float(each) for each in pointed_at] == pytest.approx([float(each) for each in drawn_at], abs=0.2)


def test_every_role_has_a_colour_of_its_own_in_every_theme() -> None:
    assert LIGHT.keys() == DARK.keys() == PRINT.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)  # a drawing is themed by looking for them
    assert len(set(DARK.values())) == len(DARK)


def test_equal_charts_have_equal_bytes() -> None:
    assert svg() == svg()


@pytest.mark.slow
def test_threads_that_draw_at_the_same_time_share_no_settings() -> None:
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: svg(), range(12))) == {svg()}


def test_colours_are_named_in_the_palette_and_pages_are_written_in_templates() -> None:
    for path in REPORTS.rglob("*"):
        if path.suffix not in (".py", ".j2", ".css", ".js") or path.name == "palette.py":
            continue
        source = path.read_text()
        assert not re.findall(r"#[0-9a-fA-F]{6}\b", source), path
        assert path.suffix == ".j2" or not re.findall(r"</?(?:div|p|table|section|span|figure)\b", source), path


@pytest.mark.parametrize("task", TASKS)
def test_every_chart_has_a_place_in_the_card_and_a_name_of_its_own(task: str) -> None:
    charts = charts_of(task)
    names = [each.name for each in charts]
    assert len(names) == len(set(names))
    templates = {path.name: path.read_text() for path in (REPORTS / "templates").glob("model_card*.j2")}
    own = {f"model_card_{task}.html.j2", "model_card.html.j2"}
    own |= {"model_card_regression.html.j2"} if task == "forecast" else set()  # whose template it extends
    placed = {section for name in own for section in re.findall(r"figures\(charts\.(\w+)\)", templates[name])}
    tables = {"intervals", "intervals_by_group"}  # None for tasks without them
    assert {each.section for each in charts if each.name not in tables} <= placed
    assert all(each.description.endswith(".") for each in charts)


def test_a_page_is_rendered_without_matplotlib_until_something_is_drawn() -> None:
    modules = ["model_card.charts", "model_card.model_card", "drift.drift_report", "replay_report", "reasons_picture"]
    script = "; ".join(f"import refit.reports.{name}" for name in modules)
    script = f"{script}; import sys; print('matplotlib' in sys.modules, 'jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=SOURCE_ROOT)
    assert done.stdout.split() == ["False", "False"]


def test_every_file_of_a_package_is_installed_and_templates_are_code_of_the_stage(root: Path) -> None:
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = [f"{package.replace('.', '/')}/{name}" for package, names in data.items() for name in names]
    installed = {path for pattern in patterns for path in root.glob(pattern)}
    others = {
        path
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert others == installed
    assert "refit/reports/templates" in stage_code("evaluate")


def test_a_long_name_of_a_class_leaves_room_for_its_probability() -> None:
    problem, pixels = problem_of("multiclass", ("golden retriever", "cat")), np.zeros((4, 4, 1), np.uint8)
    image = image_charts.shown(problem, pixels, 1, np.array([0.875, 0.125]), 0.5)
    with styled():
        grid = image_charts.draw([image], [image], "picture")
    assert "cat\n→ golden retrie… (88%)" in {axis.get_title() for axis in grid.axes}


@pytest.mark.parametrize(("threshold", "colours"), [(0.13, {"GOOD"}), (0.5, {"GOOD", "BAD"})])
def test_an_image_is_an_error_by_the_threshold_of_its_model(threshold: float, colours: set[str]) -> None:
    times = [datetime(2024, 1, 1, tzinfo=UTC)] * 2
    table = pa.table({"picture": [bytes(16)] * 2, "label": [1, 0], "event_time": times})
    test = holdout(table, ZoneInfo("UTC"), "row", problem_of("binary"))
    spec = Spec("it", "cnn", ("picture",), arrays={"picture": ArrayColumn(kind="image", shape=(4, 4, 1))})
    (chart,) = image_charts.charts(test, np.array([0.3, 0.1]), spec, threshold)
    with styled():
        grid = chart.draw(None)  # type: ignore[arg-type]  # it draws rows, not an evaluation
    drawn_in = {axis.title.get_color() for axis in grid.axes if axis.get_title()}
    assert drawn_in == {{"GOOD": GOOD, "BAD": BAD}[name] for name in colours}


def test_only_the_home_page_may_send_a_form_and_no_page_loads_anything() -> None:
    home = home_page.render(Overview("demo", None, "no champion", "plain", (), (), (), ()))
    for page, target in ((home, "'self'"), (home_page.render_history("demo", ()), "'none'")):
        (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["form-action"] == target, "the home page compares versions by a form"
