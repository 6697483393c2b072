"""Random changes to a batch of images, as if another writer, or a less careful one, had drawn them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# The range at strength 1: each image gets its own values, uniform between minus and plus these.
TURN = math.radians(12)
SHEAR = 0.25
SCALE = 0.12
SHIFT = 0.18  # of half a side: 2.5 of 28 pixels
BEND = 0.055  # of half a side, one standard deviation: 0.8 of 28 pixels
KNOTS = 5  # per side, between which a bend is interpolated smoothly: about one per stroke
WIDTH = 0.6  # pixels by which strokes are wider or thinner on either side; at 1 one of a pixel could vanish
SOFTNESS = 1.0  # share of a 3x3 blur that is added or subtracted
DARKNESS = 0.3  # one standard deviation of the exponent's logarithm
BLUR = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).view(1, 1, 3, 3) / 16


@dataclass(frozen=True, slots=True)
class AugmentParams:
    """Strengths of the augmentation, as in `distort` and `jitter_strokes`."""

    affine: float
    elastic: float
    stroke_jitter: float


STRONG = AugmentParams(affine=1.2, elastic=0.8, stroke_jitter=1.5)  # for the repeats of `--sampling augment`


def distort(images: Tensor, affine: float, elastic: float, batch_size: int = 0, start: int = 0) -> Tensor:
    """float32 [N, 1, H, W] → the same shape, distorted; pixels from outside the image are 0 (black).

    `affine` is the strength of rotations, slants, scales and shifts, `elastic` that of smooth local bends; 0 is none.
    If `images` are the part of a batch of `batch_size` that begins at `start`, each is distorted as in the whole batch.
    """
    if not affine and not elastic:
        return images
    count, part = batch_size or len(images), slice(start, start + len(images))
    matrices = _matrices(count, affine, images.device)[part]
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    if elastic:
        knots = torch.randn(count, 2, KNOTS, KNOTS, device=images.device)[part] * (elastic * BEND)
        down, across = (_knot_weights(size, images.device) for size in images.shape[2:])
        grid = grid + (down @ knots @ across.T).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, align_corners=False)


def jitter_strokes(images: Tensor, strength: float, batch_size: int = 0, start: int = 0) -> Tensor:
    """float32 [N, 1, H, W] in 0..1 → the same with strokes wider or thinner, softer or sharper, darker or paler, as if
    drawn with another pen. `batch_size` and `start` as in `distort`.

    A net that recognises writers by their pens learns which letters they happened to write, and fails on other letters.
    """
    if not strength:
        return images
    count, part = batch_size or len(images), slice(start, start + len(images))
    draws = (torch.rand(2, count, 1, 1, 1, device=images.device)[:, part] * 2 - 1) * strength
    darkness = torch.randn(count, 1, 1, 1, device=images.device)[part] * (strength * DARKNESS)
    wider, thinner = _extreme(images, torch.maximum) - images, images - _extreme(images, torch.minimum)
    images = (images + torch.where(draws[0] > 0, wider, thinner) * draws[0] * WIDTH).clamp(0, 1)
    softer = F.conv2d(images, BLUR.to(images.device), padding=1) - images
    return (images + softer * draws[1] * SOFTNESS).clamp(0, 1) ** darkness.exp()


def augment(
    images: Tensor, params: AugmentParams, repeats: Tensor | None = None, batch_size: int = 0, start: int = 0
) -> Tensor:
    """float32 [N, 1, H, W] in 0..1 → the same, augmented with `params`; the `repeats`, bool [N], if given, with STRONG.

    `batch_size` and `start` as in `distort`.
    """
    distorted = distort(images, params.affine, params.elastic, batch_size, start)
    augmented = jitter_strokes(distorted, params.stroke_jitter, batch_size, start)
    if repeats is None:
        return augmented
    return torch.where(repeats.view(-1, 1, 1, 1), augment(images, STRONG, None, batch_size, start), augmented)


def _knot_weights(size: int, device: torch.device) -> Tensor:
    """float32 [size, KNOTS]: the weight of each knot at `size` positions along a side, by cubic interpolation."""
    knots = torch.eye(KNOTS, device=device).unsqueeze(1)
    along = F.interpolate(knots.unsqueeze(3), size=(size, 1), mode="bicubic", align_corners=True)
    return along.view(KNOTS, size).T


def _extreme(images: Tensor, pick: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The maximum or minimum of the 3x3 pixels around each. On a CPU max_pool2d would take five times as long."""
    height, width = images.shape[2:]
    wide = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = pick(pick(wide[:, :, :height], wide[:, :, 1:-1]), wide[:, :, 2:])
    return pick(pick(rows[..., :width], rows[..., 1:-1]), rows[..., 2:])


def _matrices(count: int, strength: float, device: torch.device) -> Tensor:
    """float32 [count, 2, 3]: from positions in the new image to positions in the old one, both from -1 to 1."""
    draws = (torch.rand(6, count, device=device) * 2 - 1) * strength
    turn, shear = draws[0] * TURN, draws[1] * SHEAR
    wide, high = 1 + draws[2] * SCALE, 1 + draws[3] * SCALE
    right, down = draws[4] * SHIFT, draws[5] * SHIFT
    cos, sin = turn.cos(), turn.sin()
    across = torch.stack([cos * wide, (cos * shear - sin) * wide, right], dim=1)
    along = torch.stack([sin * high, (sin * shear + cos) * high, down], dim=1)
    return torch.stack([across, along], dim=1)
