"""What is done to images on their way to a model. B images, C channels, H rows of pixels, W pixels a row."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ml_playground.core.image_facts import ImageFacts


class Moves(NamedTuple):
    """How each image of a batch is moved."""

    down: Tensor
    """(B,) pixels."""
    right: Tensor
    """(B,) pixels."""
    turned: Tensor
    """(B,) radians, clockwise."""


def moved(images: Tensor, moves: Moves) -> Tensor:
    """Images (B, C, H, W) turned about their middle, then shifted; between pixels in proportion, 0 where nothing was."""
    rows, _, height, width = images.shape
    cos, sin = torch.cos(moves.turned), torch.sin(moves.turned)
    # For each pixel of the result, where in the image it comes from, in halves of the sides: undo the shift, then the turn.
    down, right = moves.down * 2 / height, moves.right * 2 / width
    aspect = height / width
    across = torch.stack([cos, sin * aspect, -cos * right - sin * aspect * down], dim=1)
    along = torch.stack([-sin / aspect, cos, sin / aspect * right - cos * down], dim=1)
    grid = functional.affine_grid(torch.stack([across, along], dim=1), [rows, 1, height, width], align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def normalised(images: Tensor, image: ImageFacts) -> Tensor:
    """Pixels from 0 to 1, (B, C, H, W), as the training images have mean 0 and deviation 1 in each channel."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (image.mean, image.std))
    return (images - mean) / std
