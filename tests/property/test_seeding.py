"""Named streams of randomness."""

from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.seeding import seed_for

NAMES = st.lists(
    st.integers() | st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"])), max_size=4
)


@given(seed=st.integers(), name=NAMES)
def test_seed_for_any_name_fits_every_generator(seed: int, name: list[str | int]) -> None:
    """Generators of torch and numpy take 63 bits, and asking twice gives the same."""
    first = seed_for(seed, *name)
    assert 0 <= first < 1 << 63
    assert seed_for(seed, *name) == first


@given(seed=st.integers(), other_seed=st.integers(), name=NAMES, other=NAMES)
def test_seed_for_different_names_differs(
    seed: int, other_seed: int, name: list[str | int], other: list[str | int]
) -> None:
    """No two uses share their randomness."""
    same = seed == other_seed and [(type(part), part) for part in name] == [(type(part), part) for part in other]
    assert (seed_for(seed, *name) == seed_for(other_seed, *other)) == same


def test_seed_for_number_and_its_text_differ() -> None:
    """A hook named "1" is not step 1; parts are not run together."""
    seeds = [seed_for(1, 2), seed_for(1, "2"), seed_for(12), seed_for(1, 2, 3), seed_for(1, 23), seed_for(1, "2", "3")]
    assert len(set(seeds)) == len(seeds)


def test_seed_for_known_name_is_the_same_on_every_machine_and_version() -> None:
    """A run that is resumed with a later version goes on with the same randomness."""
    assert seed_for(1337, "step", 17, 0) == 5053632540297569239
    assert seed_for(0) == 4246866556266386882


def test_seed_for_many_steps_is_spread_over_all_bits() -> None:
    """Each bit is set about half of the time: 1,000 steps, six standard deviations."""
    seeds = [seed_for(1, "step", step, 0) for step in range(1000)]
    counts = [sum(seed >> bit & 1 for seed in seeds) for bit in range(63)]
    assert min(counts) > 400
    assert max(counts) < 600
