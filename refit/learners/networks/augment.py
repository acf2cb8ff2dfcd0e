"""Random changes of the rows of a batch: crops, flips, turns and the like of images, and mixup of two rows."""

from __future__ import annotations

from dataclasses import replace
from math import pi

import torch
from torch import Tensor
from torch.nn import functional

from refit.learners.networks.inputs import Inputs
from refit.learners.networks.params import Augmentation

__all__ = ["augmented", "mixed"]


def augmented(batch: Inputs, how: Augmentation) -> Inputs:
    """The batch with every image changed at random, by torch's global generator."""
    if how == Augmentation():
        return batch
    return replace(batch, images={name: _changed(images, how) for name, images in batch.images.items()})


def mixed(batch: Inputs, alpha: float) -> tuple[Inputs, Tensor, float]:
    """Each row mixed with another one (Zhang et al. 2018, eq. 1), the others' indices, and the share of the first.

    The share is drawn from Beta(alpha, alpha), once a batch.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(batch)).to(batch.codes.device)

    def mix(tensor: Tensor) -> Tensor:
        return share * tensor + (1 - share) * tensor[other]

    images = {name: mix(tensor) for name, tensor in batch.images.items()}
    vectors = {name: mix(tensor) for name, tensor in batch.vectors.items()}
    return replace(batch, numbers=mix(batch.numbers), images=images, vectors=vectors), other, share


def _changed(images: Tensor, how: Augmentation) -> Tensor:
    """(rows, channels, height, width) float32 from 0 to 255."""
    changed = images.float()
    if how.crop:
        changed = _cropped(changed, how.crop)
    if how.flip:
        flipped = (torch.rand(len(changed)) < 0.5).to(changed.device)
        changed = torch.where(flipped[:, None, None, None], changed.flip(3), changed)
    if how.rotate:
        changed = _rotated(changed, how.rotate)
    if how.zoom:
        changed = _zoomed(changed, how.zoom)
    if how.erase:
        changed = _erased(changed, how.erase)
    if how.noise:
        noise = torch.randn(changed.shape).to(changed.device)
        changed = (changed + 255 * how.noise * noise).clamp(0, 255)
    return changed


def _cropped(images: Tensor, border: int) -> Tensor:
    """Each image moved by up to `border` pixels, with black where there was nothing (He et al. 2016, section 4.2)."""
    rows, _, height, width = images.shape
    padded = functional.pad(images, [border] * 4)
    top, left = torch.randint(0, 2 * border + 1, (2, rows, 1)).to(images.device)
    y, x = top + torch.arange(height, device=images.device), left + torch.arange(width, device=images.device)
    row = torch.arange(rows, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[row, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def _rotated(images: Tensor, degrees: float) -> Tensor:
    """Each image turned about its centre by up to `degrees`, with black corners."""
    angle = ((2 * torch.rand(len(images)) - 1) * degrees * pi / 180).to(images.device)
    height, width = images.shape[2:]
    across, zero = width / height, torch.zeros_like(angle)  # coordinates run from -1 to 1 on either side
    turn = torch.stack(
        [
            torch.stack([angle.cos(), -angle.sin() / across, zero], dim=1),
            torch.stack([angle.sin() * across, angle.cos(), zero], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(turn, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _zoomed(images: Tensor, share: float) -> Tensor:
    """Each image made smaller or larger by up to a share, with black around smaller ones."""
    size = (1 + share * (2 * torch.rand(len(images)) - 1)).to(images.device)
    zero = torch.zeros_like(size)
    across, down = torch.stack([1 / size, zero, zero], dim=1), torch.stack([zero, 1 / size, zero], dim=1)
    grid = functional.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _erased(images: Tensor, share: float) -> Tensor:
    """Each image with a black square, centred on any pixel (DeVries and Taylor 2017, "Cutout")."""
    height, width = images.shape[2:]
    half = share * min(height, width) / 2
    y, x = (torch.rand(2, len(images), 1) * torch.tensor([height, width])[:, None, None]).to(images.device)
    rows = (torch.arange(height, device=images.device) - y).abs() < half
    columns = (torch.arange(width, device=images.device) - x).abs() < half
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)
