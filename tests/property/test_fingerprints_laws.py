"""Laws of finding equal rows: what a set would say, in memory or from the disk, and whatever the order."""

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.data_pipeline.checks import repeats
from ml_playground.data_pipeline.checks.fingerprints import FingerprintTable, digest, short_digest
from ml_playground.data_pipeline.checks.repeats import Parts, Picked

# Few keys in few spellings, so that most rows meet others.
rows = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", " ", "\n"])), max_size=60)
spills = st.sampled_from([40, 400, 1 << 20])


def found(table_rows: list[tuple[str, str]], spill_bytes: int, rule: object, most: int = 3) -> Picked:
    """What a rule picks of rows that are a key and a spelling."""
    with FingerprintTable(spill_bytes) as table:
        for number, (key, spelling) in enumerate(table_rows):
            table.add(digest(key.encode()), short_digest(spelling.encode()), number, 10 * number)
        parts = [repeats.picked(groups, rule(groups), most) for groups in table.groups()]  # type: ignore[operator]
    return repeats.together(parts, most)


@given(rows, spills)
def test_exact_copies_are_those_of_a_set(table_rows: list[tuple[str, str]], spill_bytes: int) -> None:
    """Each row but the first of its kind."""
    seen: set[tuple[str, str]] = set()
    expected = []
    for number, row in enumerate(table_rows):
        if row in seen:
            expected.append(number)
        seen.add(row)
    picked = found(table_rows, spill_bytes, repeats.exact)
    assert picked.count == len(expected)
    assert [repeat.row for repeat in picked.repeats] == expected[:3]


@given(rows, spills)
def test_near_copies_are_the_other_spellings_of_a_key(table_rows: list[tuple[str, str]], spill_bytes: int) -> None:
    """Exact and near copies together are all rows but one a key."""
    exact = found(table_rows, spill_bytes, repeats.exact)
    near = found(table_rows, spill_bytes, repeats.near)
    keys = Counter(key for key, _ in table_rows)
    assert exact.count + near.count == sum(count - 1 for count in keys.values())
    assert near.count == len(set(table_rows)) - len(keys)


@given(rows, spills)
def test_contradictions_are_all_rows_of_keys_with_several_answers(
    table_rows: list[tuple[str, str]], spill_bytes: int
) -> None:
    """Nobody can tell which of them is right."""
    answers: dict[str, set[str]] = defaultdict(set)
    for key, answer in table_rows:
        answers[key].add(answer)
    expected = [number for number, (key, _) in enumerate(table_rows) if len(answers[key]) > 1]
    picked = found(table_rows, spill_bytes, repeats.contradicting)
    assert (picked.count, [repeat.row for repeat in picked.repeats]) == (len(expected), expected[:3])


@given(rows, st.integers(0, 60), spills)
def test_leaks_are_the_keys_of_both_sides(table_rows: list[tuple[str, str]], cut: int, spill_bytes: int) -> None:
    """Held out from a row on: each held-out row whose key was also before it."""
    parts = Parts()
    parts.begin(0, held_out=False)
    parts.begin(cut, held_out=True)
    trained = {key for key, _ in table_rows[:cut]}
    expected = [number for number, (key, _) in enumerate(table_rows) if number >= cut and key in trained]
    if parts.both:
        picked = found(table_rows, spill_bytes, lambda groups: repeats.leaking(groups, parts.held_out)[0])
        assert (picked.count, [repeat.row for repeat in picked.repeats]) == (len(expected), expected[:3])
    else:
        assert expected == []


@given(rows, spills)
def test_repeats_name_another_row_of_their_key(table_rows: list[tuple[str, str]], spill_bytes: int) -> None:
    """Whoever reads the report compares the two, so both must be there."""
    for repeat in found(table_rows, spill_bytes, repeats.again, most=100).repeats:
        assert repeat.first_row < repeat.row
        assert table_rows[repeat.first_row][0] == table_rows[repeat.row][0]
        assert repeat.offset == 10 * repeat.row


def test_parts_say_of_each_row_on_which_side_it_is() -> None:
    """Sides may change more than once, as by the hash of a document's name."""
    parts = Parts()
    for row, side in ((0, False), (3, True), (5, True), (7, False)):
        parts.begin(row, held_out=side)
    assert parts.held_out(np.arange(9, dtype=np.uint64)).tolist() == [False] * 3 + [True] * 4 + [False] * 2
