"""Parameters and arithmetic of the models that tell images apart, from settings and facts alone; needs no torch.

What plans call a token is a target: here an image. K classes, C, H, W the shape of an image.
"""

from collections.abc import Mapping

from ml_playground.core.values import ModelCost
from ml_playground.models.images.settings import MnistCnn, Vit

KERNEL = 9
"""Weights of a 3 x 3 convolution from one map to another."""


def halved_twice(side: int) -> int:
    """A side behind two stages that halve it, rounded up each time."""
    return (side + 3) // 4


def cnn_cost(settings: MnistCnn, facts: Mapping[str, int]) -> ModelCost:
    """Of the convolutional network; `facts`: channels, height, width, classes."""
    first, second = settings.channels, 2 * settings.channels
    height, width, classes = facts["height"], facts["width"], facts["classes"]
    whole, half = height * width, ((height + 1) // 2) * ((width + 1) // 2)
    flat = second * halved_twice(height) * halved_twice(width)
    convolutions = [
        (facts["channels"], first, whole),
        (first, first, whole),
        (first, second, half),
        (second, second, half),
    ]
    matrices = flat * settings.hidden + settings.hidden * classes
    parameters = sum((KERNEL * given + 1) * made for given, made, _ in convolutions)
    products = sum(KERNEL * given * made * places for given, made, places in convolutions) + matrices
    return ModelCost(
        parameters=parameters + matrices + settings.hidden + classes,
        matrix_parameters=flat * settings.hidden,
        flops_per_token=6 * products,
        vocab_size=classes,
        sequence_tokens=1,
    )


def patches(settings: Vit, facts: Mapping[str, int]) -> int:
    """Patches of an image."""
    return (facts["height"] // settings.patch_size) * (facts["width"] // settings.patch_size)


def vit_cost(settings: Vit, facts: Mapping[str, int]) -> ModelCost:
    """Of the vision transformer; `facts`: channels, height, width, classes."""
    width, inner, classes, count = settings.n_embd, settings.inner_width, facts["classes"], patches(settings, facts)
    patch = facts["channels"] * settings.patch_size**2
    block = 4 * width * width + 2 * width * inner
    # Queries, keys, values and the projection; up and down; two norms of gain and bias.
    vectors = 4 * width + inner + width + 4 * width
    embedding = patch * width + width + count * width
    attention = 2 * settings.n_layer * width * count
    products = count * (settings.n_layer * block + patch * width + attention) + width * classes
    return ModelCost(
        parameters=embedding + settings.n_layer * (block + vectors) + 2 * width + width * classes + classes,
        matrix_parameters=settings.n_layer * block,
        flops_per_token=6 * products,
        vocab_size=classes,
        sequence_tokens=1,
    )
