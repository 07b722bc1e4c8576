"""Laws of finding equal rows: what a set would say, in memory or from the disk, whatever the order, and in memory that does not grow."""

import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.data_pipeline.checks import repeats
from ml_playground.data_pipeline.checks.external_sort import SIZES, ExternalSort, Sizes
from ml_playground.data_pipeline.checks.fingerprints import FingerprintTable, Groups, Mask, digest, short_digest
from ml_playground.data_pipeline.checks.marks import RowMarks
from ml_playground.data_pipeline.checks.repeats import HELD_OUT, LEFT_OUT, TRAINED, Parts, Picked, Repeat

Rule = Callable[[Groups], Mask]
RECORD = 40

# Few keys in few spellings, so that most rows meet others; of one key alone, too.
rows = st.one_of(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", " ", "\n"])), max_size=60),
    st.lists(st.tuples(st.just("a"), st.sampled_from(["", " "])), max_size=60),
)
# From one record a run and a chunk up to everything in memory.
spills = st.builds(
    Sizes,
    run_bytes=st.sampled_from([RECORD, 3 * RECORD, 10 * RECORD, 1 << 20]),
    chunk_bytes=st.sampled_from([1, 2 * RECORD, 7 * RECORD, 1 << 20]),
    most_runs=st.integers(1, 5),
)


def found(
    table_rows: list[tuple[str, str]], sizes: Sizes, rule: Rule, most: int = 3, parts: Parts | None = None
) -> Picked:
    """What a rule picks of rows that are a key and a spelling."""
    with FingerprintTable(sizes) as table:
        for number, (key, spelling) in enumerate(table_rows):
            table.add(digest(key.encode()), short_digest(spelling.encode()), number, 10 * number)
        sides = (parts or Parts()).sides
        return repeats.together([repeats.picked(groups, rule(groups), most) for groups in table.groups(sides)], most)


@given(rows, st.lists(st.sampled_from([LEFT_OUT, TRAINED, HELD_OUT]), min_size=60, max_size=60), spills)
def test_what_is_found_is_what_a_reference_in_memory_finds(
    table_rows: list[tuple[str, str]], sides: list[int], sizes: Sizes
) -> None:
    """Each rule, its count, and each row with the one it is shown beside, wherever runs, blocks and chunks end."""
    parts = Parts()
    for number, side in enumerate(sides):
        parts.begin(number, side)
    members: dict[str, list[int]] = defaultdict(list)
    for number, (key, _) in enumerate(table_rows):
        members[key].append(number)
    spellings = {
        number: [one for one in members[row[0]] if table_rows[one] == row] for number, row in enumerate(table_rows)
    }

    def on_both_sides(number: int) -> bool:
        return {TRAINED, HELD_OUT} <= {sides[one] for one in members[table_rows[number][0]]}

    reference: dict[str, tuple[Rule, Callable[[int, list[int]], bool]]] = {
        "exact": (repeats.exact, lambda number, alike: number != spellings[number][0]),
        "near": (repeats.near, lambda number, alike: number == spellings[number][0] != alike[0]),
        "again": (repeats.again, lambda number, alike: number != alike[0] and sides[number] != LEFT_OUT),
        "contradicting": (repeats.contradicting, lambda number, alike: alike != spellings[number]),
        "held": (
            lambda one: repeats.leaking(one)[0],
            lambda number, _: sides[number] == HELD_OUT and on_both_sides(number),
        ),
        "trained": (
            lambda one: repeats.leaking(one)[1],
            lambda number, _: sides[number] == TRAINED and on_both_sides(number),
        ),
    }
    for name, (rule, wanted) in reference.items():
        expected = [
            Repeat(number, 10 * number, next(one for one in members[key] if one != number))
            for number, (key, _) in enumerate(table_rows)
            if wanted(number, members[key])
        ]
        picked = found(table_rows, sizes, rule, 3, parts)
        assert (name, picked.count, list(picked.repeats)) == (name, len(expected), expected[:3])


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 3)), max_size=50), spills)
def test_sorting_with_little_memory_sorts(pairs: list[tuple[int, int]], sizes: Sizes) -> None:
    """As Python sorts, twice the same, and no record is lost; integers that a float cannot tell apart among them."""
    dtype = np.dtype([("big", "<u8"), ("small", "u1")])
    pairs = [*pairs, (2**63, 1), (2**63 + 1, 0)]
    with ExternalSort(dtype, ("big", "small"), sizes) as sort:
        for pair in pairs:
            sort.add(np.array([pair], dtype).tobytes())
        passes = [[record.item() for chunk in sort.chunks() for record in chunk] for _ in range(2)]
    assert passes == [sorted(pairs), sorted(pairs)]


@given(st.sets(st.tuples(st.integers(0, 30), st.sampled_from(["copy", "leak"]))), spills)
def test_marks_are_read_in_the_order_of_the_rows(marked: set[tuple[int, str]], sizes: Sizes) -> None:
    """What was marked in any order is what a second pass finds at each row."""
    with RowMarks(sizes) as marks:
        for row, code in marked:
            marks.add(code, np.array([row], dtype=np.uint64))
        reader = marks.reader()
        assert {(row, code) for row in range(31) for code in reader.codes(row)} == marked


def one_row(times: int) -> Iterator[tuple[bytes, int]]:
    """One and the same row over and over."""
    return ((digest(b"row"), 1) for _ in range(times))


def one_row_in_many_spellings(times: int) -> Iterator[tuple[bytes, int]]:
    """One key, each time with another answer."""
    return ((digest(b"row"), number) for number in range(times))


def copies_of(rows_alike: Iterator[tuple[bytes, int]], sizes: Sizes) -> int:
    """How many of them are there again."""
    with FingerprintTable(sizes) as table:
        for number, (key, other) in enumerate(rows_alike):
            table.add(key, other, number, number)
        return sum(int(repeats.again(groups).sum()) for groups in table.groups(Parts().sides))


@pytest.mark.parametrize("made", [one_row, one_row_in_many_spellings])
def test_memory_does_not_grow_where_all_rows_are_alike(made: Callable[[int], Iterator[tuple[bytes, int]]]) -> None:
    """A twelfth of the 12 MB of records, however many there are; all sizes are 64 times smaller than they are."""
    sizes = Sizes(run_bytes=SIZES.run_bytes >> 6, chunk_bytes=SIZES.chunk_bytes >> 6)
    times = 300_000
    # The first table of a process takes 130 kB more, which numpy loads; what counts lines takes 50 kB for them, once.
    assert copies_of(made(30_000), sizes) == 30_000 - 1
    tracemalloc.start()
    copies = copies_of(made(times), sizes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert copies == times - 1
    # Two buffers, and some hundred bytes for each of up to 512 runs.
    assert peak < 1_300_000


@given(rows, spills)
def test_exact_copies_are_those_of_a_set(table_rows: list[tuple[str, str]], sizes: Sizes) -> None:
    """Each row but the first of its kind."""
    seen: set[tuple[str, str]] = set()
    expected = []
    for number, row in enumerate(table_rows):
        if row in seen:
            expected.append(number)
        seen.add(row)
    picked = found(table_rows, sizes, repeats.exact)
    assert picked.count == len(expected)
    assert [repeat.row for repeat in picked.repeats] == expected[:3]


@given(rows, spills)
def test_near_copies_are_the_other_spellings_of_a_key(table_rows: list[tuple[str, str]], sizes: Sizes) -> None:
    """Exact and near copies together are all rows but one a key."""
    exact = found(table_rows, sizes, repeats.exact)
    near = found(table_rows, sizes, repeats.near)
    keys = Counter(key for key, _ in table_rows)
    assert exact.count + near.count == sum(count - 1 for count in keys.values())
    assert near.count == len(set(table_rows)) - len(keys)


@given(rows, spills)
def test_contradictions_are_all_rows_of_keys_with_several_answers(
    table_rows: list[tuple[str, str]], sizes: Sizes
) -> None:
    """Nobody can tell which of them is right."""
    answers: dict[str, set[str]] = defaultdict(set)
    for key, answer in table_rows:
        answers[key].add(answer)
    expected = [number for number, (key, _) in enumerate(table_rows) if len(answers[key]) > 1]
    picked = found(table_rows, sizes, repeats.contradicting)
    assert (picked.count, [repeat.row for repeat in picked.repeats]) == (len(expected), expected[:3])


@given(rows, st.integers(0, 60), spills)
def test_leaks_are_the_keys_of_both_sides(table_rows: list[tuple[str, str]], cut: int, sizes: Sizes) -> None:
    """Held out from a row on: each held-out row whose key was also before it."""
    parts = Parts()
    parts.begin(0, TRAINED)
    parts.begin(cut, HELD_OUT)
    trained = {key for key, _ in table_rows[:cut]}
    expected = [number for number, (key, _) in enumerate(table_rows) if number >= cut and key in trained]
    picked = found(table_rows, sizes, lambda groups: repeats.leaking(groups)[0], parts=parts)
    assert (picked.count, [repeat.row for repeat in picked.repeats]) == (len(expected), expected[:3])


@given(rows, spills)
def test_repeats_name_another_row_of_their_key(table_rows: list[tuple[str, str]], sizes: Sizes) -> None:
    """Whoever reads the report compares the two, so both must be there."""
    for repeat in found(table_rows, sizes, repeats.again, most=100).repeats:
        assert repeat.first_row < repeat.row
        assert table_rows[repeat.first_row][0] == table_rows[repeat.row][0]
        assert repeat.offset == 10 * repeat.row


def test_parts_say_of_each_row_on_which_side_it_is() -> None:
    """Sides may change more than once, as by the hash of a document's name."""
    parts = Parts()
    for row, side in ((0, TRAINED), (3, HELD_OUT), (5, HELD_OUT), (7, LEFT_OUT)):
        parts.begin(row, side)
    assert parts.sides(np.arange(9, dtype=np.uint64)).tolist() == [TRAINED] * 3 + [HELD_OUT] * 4 + [LEFT_OUT] * 2
