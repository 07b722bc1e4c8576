"""The laws that a source, a model and a hook must keep."""

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch

from ml_playground.configuration.families import HOOKS, MODELS, SOURCES
from ml_playground.core.deps import Deps
from ml_playground.core.values import Action, ModelContext, Progress
from ml_playground_dice.hook import GoalHook
from ml_playground_dice.kinds import BIGRAM, GOAL, LOADED_DICE
from ml_playground_dice.model import build
from ml_playground_dice.settings import Bigram, Goal, LoadedDice, cost
from ml_playground_dice.source import Games
from ml_playground_dice.source import build as build_source


def test_installed_kinds_are_found_by_their_names() -> None:
    """The entry points and the table say the same."""
    assert (SOURCES["loaded_dice"], MODELS["bigram"], HOOKS["goal"]) == (LOADED_DICE, BIGRAM, GOAL)


def test_source_read_twice_gives_the_same_documents_and_account() -> None:
    """Preparing reads it three times, and compares what it is made of before and after."""
    source = build_source(LoadedDice(games=5), Deps())
    assert list(source.documents()) == list(source.documents())
    assert source.provenance() == source.provenance()


def test_source_another_seed_is_another_content() -> None:
    """The account names what was read, not what was asked for."""
    assert Games(LoadedDice(games=2, seed=1)).provenance().content != Games(LoadedDice(games=2)).provenance().content


def test_source_throws_have_the_entropy_that_is_said() -> None:
    """Counted over 200,000 pairs, within three thousandths."""
    settings = LoadedDice(games=20, throws=10_001, stickiness=0.6)
    pairs = Counter(pair for document in Games(settings).documents() for pair in pairwise(document.text))
    firsts = Counter(first for first, _ in pairs.elements())
    nats = -sum(count * math.log(count / firsts[first]) for (first, _), count in pairs.items())
    assert nats / pairs.total() == pytest.approx(settings.entropy, abs=3e-3)


def test_model_has_as_many_parameters_as_its_cost_says() -> None:
    """The planner believes the cost."""
    facts = {"vocab_size": 7, "sequence_tokens": 4}
    model = build(Bigram(), ModelContext(facts))
    assert sum(parameter.numel() for parameter in model.parameters()) == cost(Bigram(), facts).parameters


def test_decoder_step_by_step_equals_the_model() -> None:
    """Drawing must not change what was trained, and must keep its own copy of it."""
    model = build(Bigram(), ModelContext({"vocab_size": 7}))
    ids = torch.randint(7, (3, 5))
    expected = model(ids).detach()
    decoder = model.decoder("float32")
    with torch.no_grad():
        model.table.weight.zero_()
    state = decoder.new_state(3, 5)
    steps = [decoder.step(ids[:, at : at + 1], state) for at in range(5)]
    torch.testing.assert_close(torch.stack(steps, dim=1), expected, rtol=0, atol=0)
    torch.testing.assert_close(decoder.logits(ids), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("loss", "action"), [(1.1, Action.FINISH), (1.0, Action.FINISH), (1.2, Action.NONE)])
def test_goal_finishes_when_the_loss_is_low_enough(loss: float, action: Action) -> None:
    """At the goal counts as reached."""
    progress = Progress(step=1, max_steps=9, epoch=0.1, targets=8.0, elapsed_s=1.0)
    assert GoalHook(Goal(loss=1.1)).on_evaluation(progress, {"loss": loss}).action == action
