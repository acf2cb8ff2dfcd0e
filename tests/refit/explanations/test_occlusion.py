"""Where in an image a prediction comes from: measured by covering patches, drawn over the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from refit.cli.explain import print_reasons
from refit.config.column_types import ArrayColumn
from refit.explanations.occlusion import losses_by_patch
from refit.learners import Learner, Spec, make
from refit.reports.reasons_picture import draw
from refit.runtime.terminal import Terminal
from refit.schemas.explanations import ExplainedRow, FeatureContribution, RowExplanations
from refit.storage.arrays import images

IMAGE = ArrayColumn(kind="image", shape=(16, 16, 1))


def pictures(count: int) -> tuple[pa.Table, np.ndarray]:
    """Grey noise, with a bright square below on the left in every second picture."""
    pixels = np.random.default_rng(0).integers(90, 110, (count, 16, 16, 1)).astype(np.uint8)
    label = np.arange(count) % 2
    pixels[label == 1, 10:12, 4:6] = 250
    return pa.table({"size": [1.0] * count, "picture": [each.tobytes() for each in pixels]}), label


def fitted() -> Learner:
    logistic = make(
        Spec("it", "sklearn.linear_model.LogisticRegression", ("size", "picture"), arrays={"picture": IMAGE})
    )
    logistic.fit(*pictures(60))
    return logistic


def test_the_patch_that_decides_costs_most_and_the_picture_stays_as_it_is() -> None:
    learner, (table, _) = fitted(), pictures(60)
    row = table.slice(1, 1)
    before = row.to_pylist()
    losses = losses_by_patch(learner, row, "picture", IMAGE)
    assert losses.shape == (8, 8, 1)
    assert np.unravel_index(losses[:, :, 0].argmax(), (8, 8)) == (5, 2), "rows 10 and 11, columns 4 and 5"
    assert losses.max() > 0.4 > 10 * np.sort(losses.ravel())[-2]
    assert row.to_pylist() == before


def test_it_is_printed_in_one_line_and_drawn_over_the_picture(tmp_path: Path) -> None:
    learner, (table, _) = fitted(), pictures(60)
    row = table.slice(1, 1)
    losses = losses_by_patch(learner, row, "picture", IMAGE)[:, :, 0]
    feature = FeatureContribution(
        name="picture", value=str(IMAGE), adds=0.5, patches=tuple(map(tuple, losses.tolist()))
    )
    plain = FeatureContribution(name="size", value=1.0, adds=0.0)
    assert "patches" not in plain.to_json()
    explained = ExplainedRow(
        key="k",
        prediction=0.9,
        predicted_class=None,
        task="binary",
        log_odds=False,
        base=0.4,
        total=0.9,
        features=(feature, plain),
    )
    report = RowExplanations(
        model="m",
        version="1",
        source="s",
        unit="probability",
        method="sampling",
        calibrated=False,
        in_words="probability",
        not_shown=0,
        rows=(explained,),
    )
    file = (tmp_path / "out.txt").open("w+")
    print_reasons(report, Terminal(file=file, width=200))
    file.seek(0)
    assert "of its 8 x 8 patches, covering the one in row 6, column 3 takes" in file.read()
    draw(report, tmp_path / "plain.png")
    draw(report, tmp_path / "why.png", {"picture": images(row, "picture", IMAGE)[0]})
    assert (tmp_path / "why.png").stat().st_size > (tmp_path / "plain.png").stat().st_size
