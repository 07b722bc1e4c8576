"""Laws of the rule that decides which checkpoints may go."""

from hypothesis import given
from hypothesis import strategies as st

from ml_playground.training.checkpointing.retention import Kept, to_drop

METRICS = st.none() | st.floats(allow_nan=True)
CHECKPOINTS = st.dictionaries(st.integers(0, 50), METRICS).map(lambda found: [Kept(*item) for item in found.items()])
RULES = st.fixed_dictionaries(
    {
        "keep_last": st.integers(0, 5),
        "keep_best": st.integers(0, 3),
        "keep_every_steps": st.none() | st.integers(1, 10),
    }
)


@given(there=CHECKPOINTS, rule=RULES)
def test_to_drop_any_rule_keeps_the_newest_and_drops_only_what_is_there(
    there: list[Kept], rule: dict[str, int]
) -> None:
    """A run can always go on from where it was furthest."""
    dropped = to_drop(there, **rule)
    steps = {kept.step for kept in there}
    assert dropped <= steps
    assert not steps or max(steps) not in dropped


@given(there=CHECKPOINTS, rule=RULES)
def test_to_drop_any_rule_keeps_each_promise(there: list[Kept], rule: dict[str, int]) -> None:
    """The newest, the best and the multiples stay, each in their number."""
    dropped = to_drop(there, **rule)
    steps = sorted((kept.step for kept in there), reverse=True)
    assert not dropped & set(steps[: rule["keep_last"]])
    every = rule["keep_every_steps"]
    assert not every or all(step % every for step in dropped)
    numbers = [kept for kept in there if kept.cost is not None and kept.cost == kept.cost]
    lost = sorted(kept.cost for kept in numbers if kept.step in dropped)
    stayed = sorted(kept.cost for kept in numbers if kept.step not in dropped)
    best = rule["keep_best"]
    assert not lost or len(stayed) >= best
    assert not lost or not best or stayed[best - 1] <= lost[0]


@given(there=CHECKPOINTS, rule=RULES)
def test_to_drop_twice_drops_nothing_more(there: list[Kept], rule: dict[str, int]) -> None:
    """What a rule keeps, it keeps when it is asked again."""
    dropped = to_drop(there, **rule)
    kept = [checkpoint for checkpoint in there if checkpoint.step not in dropped]
    assert to_drop(kept, **rule) == set()


@given(there=CHECKPOINTS, rule=RULES)
def test_to_drop_keeps_no_more_than_was_asked_for(there: list[Kept], rule: dict[str, int]) -> None:
    """The disk does not fill up with checkpoints that no rule asked for."""
    stayed = len(there) - len(to_drop(there, **rule | {"keep_every_steps": None}))
    assert stayed <= max(1, rule["keep_last"]) + rule["keep_best"]
