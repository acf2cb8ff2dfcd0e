"""Images are turned and zoomed about their centre, without a distortion, whatever their shape."""

from __future__ import annotations

import pytest
import torch

from refit.learners.networks.augment import augmented
from refit.learners.networks.inputs import Inputs
from refit.learners.networks.params import Augmentation

ROWS, AWAY = 300, 6


def centroids(how: Augmentation, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows,) where a spot lies afterwards that lay `AWAY` pixels to the right of the centre: to the right, down."""
    torch.manual_seed(0)
    image = torch.zeros(height, width)
    down, across = height // 2, width // 2
    image[down - 1 : down + 2, across + AWAY - 1 : across + AWAY + 2] = 200.0
    batch = Inputs(torch.empty(ROWS, 0).long(), torch.empty(ROWS, 0), {"it": image.expand(ROWS, 1, height, width)})
    changed = augmented(batch, how).images["it"][:, 0]
    weight = changed / changed.sum(dim=(1, 2), keepdim=True)
    right = (weight.sum(dim=1) * (torch.arange(width) - across)).sum(dim=1)
    below = (weight.sum(dim=2) * (torch.arange(height) - down)).sum(dim=1)
    return right, below


@pytest.mark.parametrize(("height", "width"), [(21, 21), (21, 33), (33, 21)])
def test_a_turned_spot_is_as_far_from_the_centre_as_before_by_an_angle_to_either_side(height: int, width: int) -> None:
    right, below = centroids(Augmentation(rotate=60.0), height, width)
    torch.testing.assert_close(torch.hypot(right, below), torch.full((ROWS,), float(AWAY)), atol=0.1, rtol=0)
    angle = torch.rad2deg(torch.atan2(below, right))
    assert -61 < float(angle.min()) < -50
    assert 50 < float(angle.max()) < 61


@pytest.mark.parametrize(("height", "width"), [(21, 21), (21, 33)])
def test_a_zoomed_spot_is_farther_from_the_centre_or_nearer_by_the_share_and_in_the_same_direction(
    height: int, width: int
) -> None:
    right, below = centroids(Augmentation(zoom=0.3), height, width)
    torch.testing.assert_close(below, torch.zeros(ROWS), atol=0.01, rtol=0)
    assert 0.69 * AWAY < float(right.min()) < 0.75 * AWAY
    assert 1.25 * AWAY < float(right.max()) < 1.31 * AWAY
