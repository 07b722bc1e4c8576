"""Groups of a whole recipe: chosen by one word, shown as whole, and what each promises."""

from pathlib import Path

import pytest

from ml_playground.configuration.loading import PRESETS, SHIPPED, load
from ml_playground.core.error_handling import ConfigError
from ml_playground.models.settings import Gpt
from ml_playground.models.weights.hugging_face import layout_for

DOCUMENTS = Path(__file__).parents[3] / "docs" / "recipes.md", SHIPPED / "shakespeare" / "README.md"
RECIPES = sorted(file.stem for file in (PRESETS / "recipe").glob("*.toml"))
DECIDED = {"data", "model", "optimizer", "schedule", "train"}


def model_by(recipe: str) -> Gpt:
    """The model that a recipe asks for."""
    model = load("shakespeare", sets=[f"use=recipe/{recipe}"], environ={}).job.model
    assert isinstance(model, Gpt)
    return model


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_chosen_by_one_word_decides_everything_but_the_text(recipe: str) -> None:
    """Nothing in the experiment may lie over a part of a recipe, or half of another one would be trained."""
    loaded = load("shakespeare", sets=[f"use=recipe/{recipe}"], environ={})
    assert loaded.job.use == (f"recipe/{recipe}",)
    layers = {key.partition(".")[0]: set[str]() for key in loaded.origins}
    for key, history in loaded.origins.items():
        layers[key.partition(".")[0]].add(history[-1].layer)
    for section in DECIDED:
        assert f"group recipe/{recipe}" in layers[section]
        assert layers[section] <= {"class default", "default_config", f"group recipe/{recipe}"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_documented(recipe: str, document: Path) -> None:
    """Where it is used, and where it is explained."""
    assert f"recipe/{recipe}" in document.read_text(encoding="utf-8")


def test_recipes_share_the_prepared_data() -> None:
    """Changing the recipe must not prepare the text again."""
    prepares = [load("shakespeare", sets=[f"use=recipe/{recipe}"], environ={}).job.prepare for recipe in RECIPES]
    assert all(prepare == prepares[0] for prepare in prepares)


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.startswith("modern")])
def test_modern_recipes_can_be_exported(recipe: str) -> None:
    """They are the layout of Qwen3, whatever else they set."""
    assert layout_for(model_by(recipe)) == "qwen3"


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.startswith("speed")])
def test_speed_recipes_say_that_they_cannot_be_exported(recipe: str) -> None:
    """No other program knows a table of token pairs."""
    with pytest.raises(ConfigError, match=r"qwen3: .*model\.bigram_rows = \d+ \(it has 0\)"):
        layout_for(model_by(recipe))


def test_pairs_of_characters_have_a_row_each_in_the_speed_recipe() -> None:
    """Tiny Shakespeare has 65 characters and one id for unknown ones: nothing is hashed."""
    assert model_by("speed").bigram_table_rows(66) == 67 * 66
