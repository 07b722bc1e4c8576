"""What the entry points name: strings alone, so that `mlp config` loads neither torch nor the model."""

from ml_playground.core.registry import Kind

LOADED_DICE = Kind("ml_playground_dice.settings:LoadedDice", "ml_playground_dice.source:build")
BIGRAM = Kind(
    "ml_playground_dice.settings:Bigram", "ml_playground_dice.model:build", cost="ml_playground_dice.settings:cost"
)
GOAL = Kind("ml_playground_dice.settings:Goal", "ml_playground_dice.hook:build")
