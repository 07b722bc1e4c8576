"""A small convolutional network. B images, C channels, H rows, W columns, K classes."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from ml_playground.core.values import ModelContext
from ml_playground.models.images.counting import halved_twice
from ml_playground.models.images.settings import MnistCnn
from ml_playground.models.layers.dropout import dropped
from ml_playground.models.utils.init import EMBEDDING_AND_LINEAR_STD


class Stage(nn.Module):
    """Two convolutions of 3 x 3, then the largest of each 2 x 2; what stands over at the edge counts as well."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(given, made, 3, padding=1)
        self.second = nn.Conv2d(made, made, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, given, H, W) -> (B, made, H / 2, W / 2), rounded up."""
        x = functional.relu(self.first(x))
        return functional.max_pool2d(functional.relu(self.second(x)), 2, ceil_mode=True)


class MnistCnnModel(nn.Module):
    """Two stages, a hidden layer, and the classes."""

    def __init__(self, settings: MnistCnn, *, channels: int, height: int, width: int, classes: int) -> None:
        super().__init__()
        self.classes, self.dropout = classes, settings.dropout
        maps = 2 * settings.channels
        self.stages = nn.Sequential(Stage(channels, settings.channels), Stage(settings.channels, maps))
        self.hidden = nn.Linear(maps * halved_twice(height) * halved_twice(width), settings.hidden)
        self.head = nn.Linear(settings.hidden, classes)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name == "head.weight":
                # The first logits are nearly equal, and the first loss near ln K.
                nn.init.normal_(parameter, std=EMBEDDING_AND_LINEAR_STD)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        x = functional.relu(self.hidden(cast(Tensor, self.stages(images)).flatten(1)))
        return self.head(dropped(x, self.dropout) if self.training and self.dropout else x)

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The one matrix that maps hidden numbers to hidden numbers, as Muon asks."""
        return [cast(nn.Parameter, self.hidden.weight)]


def build(settings: MnistCnn, context: ModelContext) -> MnistCnnModel:
    """The model for the images at hand, with random weights."""
    facts = context.facts
    return MnistCnnModel(
        settings,
        channels=facts["channels"],
        height=facts["height"],
        width=facts["width"],
        classes=facts["classes"],
    )
