"""Random changes to a batch of pictures: what another hand, or a less careful one, might have drawn."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# The reach at strength 1; each picture draws its own values, uniformly between minus and plus these.
TURN = math.radians(12)
SHEAR = 0.25
SCALE = 0.12
SHIFT = 0.18  # of half a side: 2.5 of 28 pixels
BEND = 0.055  # of half a side, one standard deviation: 0.8 of 28 pixels
KNOTS = 5  # a side, between which a bend runs smoothly: about one to a stroke
WIDTH = 0.6  # pixels by which strokes are wider or thinner on either side; at 1 one of a pixel could vanish
SOFTNESS = 1.0  # how much of a blur over 3x3 pixels is added or taken away
DARKNESS = 0.3  # one standard deviation of the exponent's logarithm
BLUR = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).view(1, 1, 3, 3) / 16


@dataclass(frozen=True, slots=True)
class Hand:
    """How far what it draws is from the picture that is there: strengths as in `distort` and `pen`."""

    affine: float
    elastic: float
    pen: float


COPYIST = Hand(affine=1.2, elastic=0.8, pen=1.5)  # draws synthetic pictures


def distort(images: Tensor, affine: float, elastic: float, of: int = 0, start: int = 0) -> Tensor:
    """float32 [N, 1, H, W] → the same, differently drawn; what comes in from outside the picture is 0 (black).

    `affine` is the strength of turns, slants, scales and shifts, `elastic` that of smooth local bends; 0 is none.
    Where `images` are part of a batch of `of` pictures, beginning at `start`, each is drawn as in the whole.
    """
    if not affine and not elastic:
        return images
    count, part = of or len(images), slice(start, start + len(images))
    matrices = _matrices(count, affine, images.device)[part]
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    if elastic:
        knots = torch.randn(count, 2, KNOTS, KNOTS, device=images.device)[part] * (elastic * BEND)
        down, across = (_between(size, images.device) for size in images.shape[2:])
        grid = grid + (down @ knots @ across.T).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, align_corners=False)


def pen(images: Tensor, strength: float, of: int = 0, start: int = 0) -> Tensor:
    """float32 [N, 1, H, W] in 0..1 → the same drawn with another pen: strokes wider or thinner, softer or sharper,
    darker or paler. `of` and `start` as in `distort`.

    A net that knows writers by their pens learns which letters they happened to write, and errs on others' letters.
    """
    if not strength:
        return images
    count, part = of or len(images), slice(start, start + len(images))
    draws = (torch.rand(2, count, 1, 1, 1, device=images.device)[:, part] * 2 - 1) * strength
    darkness = torch.randn(count, 1, 1, 1, device=images.device)[part] * (strength * DARKNESS)
    wider, thinner = _extreme(images, torch.maximum) - images, images - _extreme(images, torch.minimum)
    images = (images + torch.where(draws[0] > 0, wider, thinner) * draws[0] * WIDTH).clamp(0, 1)
    softer = F.conv2d(images, BLUR.to(images.device), padding=1) - images
    return (images + softer * draws[1] * SOFTNESS).clamp(0, 1) ** darkness.exp()


def drawn(images: Tensor, hand: Hand, copied: Tensor | None = None, of: int = 0, start: int = 0) -> Tensor:
    """float32 [N, 1, H, W] in 0..1 → the same, each as this hand might have drawn it; where `copied` (bool [N]) is
    given, those as COPYIST might have."""
    varied = pen(distort(images, hand.affine, hand.elastic, of, start), hand.pen, of, start)
    if copied is None:
        return varied
    return torch.where(copied.view(-1, 1, 1, 1), drawn(images, COPYIST, None, of, start), varied)


def _between(size: int, device: torch.device) -> Tensor:
    """float32 [size, KNOTS]: how much of each knot is in each of `size` places along a side, by cubic convolution."""
    knots = torch.eye(KNOTS, device=device).unsqueeze(1)
    along = F.interpolate(knots.unsqueeze(3), size=(size, 1), mode="bicubic", align_corners=True)
    return along.view(KNOTS, size).T


def _extreme(images: Tensor, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The maximum or minimum of the 3x3 pixels around each. On a CPU max_pool2d takes five times as long."""
    height, width = images.shape[2:]
    wide = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = of(of(wide[:, :, :height], wide[:, :, 1:-1]), wide[:, :, 2:])
    return of(of(rows[..., :width], rows[..., 1:-1]), rows[..., 2:])


def _matrices(count: int, strength: float, device: torch.device) -> Tensor:
    """float32 [count, 2, 3]: from places in the new picture to places in the old one, both from -1 to 1."""
    draws = (torch.rand(6, count, device=device) * 2 - 1) * strength
    turn, shear = draws[0] * TURN, draws[1] * SHEAR
    wide, high = 1 + draws[2] * SCALE, 1 + draws[3] * SCALE
    right, down = draws[4] * SHIFT, draws[5] * SHIFT
    cos, sin = turn.cos(), turn.sin()
    across = torch.stack([cos * wide, (cos * shear - sin) * wide, right], dim=1)
    along = torch.stack([sin * high, (sin * shear + cos) * high, down], dim=1)
    return torch.stack([across, along], dim=1)
