"""Random affine changes to a batch of pictures: what another hand, or a less careful one, might have drawn."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# The reach at strength 1; each picture draws its own values, uniformly between minus and plus these.
TURN = math.radians(12)
SHEAR = 0.25
SCALE = 0.12
SHIFT = 0.18  # of half a side: 2.5 of 28 pixels


def affine(images: Tensor, strength: float) -> Tensor:
    """float32 [N, 1, H, W] → the same, turned, slanted, scaled and shifted; what comes in from outside is 0 (black)."""
    if strength == 0:
        return images
    draws = (torch.rand(6, len(images), device=images.device) * 2 - 1) * strength
    turn, shear = draws[0] * TURN, draws[1] * SHEAR
    wide, high = 1 + draws[2] * SCALE, 1 + draws[3] * SCALE
    right, down = draws[4] * SHIFT, draws[5] * SHIFT
    cos, sin = turn.cos(), turn.sin()
    across = torch.stack([cos * wide, (cos * shear - sin) * wide, right], dim=1)
    along = torch.stack([sin * high, (sin * shear + cos) * high, down], dim=1)
    grid = F.affine_grid(torch.stack([across, along], dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
