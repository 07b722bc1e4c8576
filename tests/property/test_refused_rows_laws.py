"""Law of rows that are refused: whatever `mlp prepare` would not take, `mlp data check` calls an error."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml_playground.commands.data_check import reader_of
from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.checks.row_scan import ANY_ROW, RowReader, scan_row
from ml_playground.data_pipeline.checks.table import CHECKS
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.sources.jsonl_rows import Line
from tests.fakes.chat_families import SOME, chat_settings

NUMBERS = count()
ASKED, SAID = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
KNOWN: list[dict[str, Any]] = [
    {"messages": [SAID, ASKED, SAID]},
    {"messages": [{"role": "system", "content": "Be brief."}, SAID]},
    {"messages": [SAID | {"weight": 0}, SAID, ASKED]},
    {"messages": [ASKED, SAID | {"weight": 0}]},
    {"messages": [ASKED, SAID], "tools": "{"},
    {"messages": [ASKED, SAID], "note": "\ud83d"},
    {"messages": [ASKED, SAID | {"content": "", "tool_calls": [{"function": {"name": "f"}}]}]},
    {"text": "words"},
]
"""Rows in which each of these alone is wrong."""
PAIRS = [{"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No."} for n in range(8)]
CONTENTS = ["words", "", " \n", "2 + 2?", "<|endoftext|>", ["parts"], None, 7, "\ud83d"]
messages = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "robot"]),
            "content": st.sampled_from(["words", *CONTENTS]),
        },
        optional={
            "tool_calls": st.just([{"function": {"name": "f"}}]),
            "weight": st.sampled_from([None, 0, 1, 0.5, -1, "much"]),
            "name": st.sampled_from(["", "A"]),
        },
    ),
    max_size=5,
)
more: Mapping[str, st.SearchStrategy[Any]] = {
    "tools": st.sampled_from([None, "", "{", "[]", [], [{"name": "f"}], {"name": "f"}, 3]),
    "system": st.sampled_from(["Be brief.", "", 3]),
    "note": st.sampled_from(["fine", "\ud83d"]),
}
words = st.sampled_from(CONTENTS)
rows = st.one_of(
    st.fixed_dictionaries({"messages": messages}, optional=more),
    st.fixed_dictionaries({"prompt": words | messages, "completion": words | messages}, optional=more),
    st.fixed_dictionaries({"text": words}),
    st.fixed_dictionaries({"other": words}),
)
preferences = st.fixed_dictionaries({"prompt": words | messages, "chosen": words, "rejected": words}, optional=more)


def errors_of(row: Mapping[str, Any], reader: RowReader = ANY_ROW) -> list[str]:
    """The errors that a check finds in a row."""
    raw = json.dumps(row).encode()
    scan = scan_row(Line(1, 0, raw, len(raw), ended=True), reader)
    return [fault.code for fault in scan.faults if CHECKS[fault.code].severity == "error"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where files and data sets lie."""
    found = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLP_HOME", str(found))
        yield found


def lines_left_out(folder: Path, some: Sequence[Mapping[str, Any]], kind: str) -> tuple[set[int], RowReader]:
    """Which rows prepare drops, from 0; and how the same settings are checked."""
    good = SOME if kind == "jsonl_chat" else PAIRS
    path = folder / f"{next(NUMBERS)}.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in [*some, *good]), encoding="utf-8")
    chat = {"template": "plain", "on_bad_row": "drop", "least_masked": 0, "most_masked": 1}
    chosen = chat_settings(path, {"kind": "byte"}, kind, chat=chat, max_loss_fraction=1)
    ledger = prepare(chosen, Deps()).manifest.ledger
    return {int(row.id.rpartition(":")[2]) - 1 for row in ledger.bad_rows}, reader_of(chosen)


@settings(max_examples=30)
@example(KNOWN)
@given(st.lists(rows, min_size=1, max_size=8))
def test_whatever_prepare_refuses_of_chats_is_an_error(folder: Path, some: list[dict[str, Any]]) -> None:
    """Of files alone for the template `plain`; of an experiment for whatever it has, texts and calls of tools too."""
    refused, reader = lines_left_out(folder, some, "jsonl_chat")
    assert some != KNOWN or len(refused) == len(KNOWN)
    for number in refused:
        assert errors_of(some[number], reader), some[number]
        assert errors_of(some[number]) or "text" in some[number] or "tool_calls" in json.dumps(some[number])
    taken = [row for number, row in enumerate(some) if number not in refused]
    assert not any("orphan_answer" in errors_of(row) or "refused" in errors_of(row, reader) for row in taken)


@settings(max_examples=15)
@given(st.lists(preferences, min_size=1, max_size=8))
def test_whatever_prepare_refuses_of_preferences_is_an_error(folder: Path, some: list[dict[str, Any]]) -> None:
    """The better and the worse answer alike."""
    refused, reader = lines_left_out(folder, some, "jsonl_preference")
    for number in refused:
        assert errors_of(some[number], reader), some[number]
        assert errors_of(some[number]), some[number]


def test_calls_of_tools_are_answers_with_their_weights() -> None:
    """One that nobody asked for is no error with the weight 0, one that is rejected is not empty, and two are compared."""
    add, take = ([{"function": {"name": name}}] for name in ("add", "take"))
    call = {"role": "assistant", "content": None, "tool_calls": add}
    assert errors_of({"messages": [call | {"weight": 0}, ASKED, SAID]}) == []
    assert errors_of({"messages": [ASKED, call | {"weight": 0}]}) == ["nothing_trained"]
    pair = {"prompt": [ASKED], "chosen": [call], "rejected": [call | {"tool_calls": take}]}
    assert errors_of(pair) == []
    assert errors_of(pair | {"rejected": [call]}) == ["same_answers"]


def test_row_that_only_the_experiment_refuses_says_why(folder: Path) -> None:
    """A template that takes no system prompt, say."""
    template = folder / "own.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
        "{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    )
    path = folder / "own.jsonl"
    path.write_text(json.dumps(SOME[0]) + "\n")
    reader = reader_of(chat_settings(path, {"kind": "byte"}, chat={"template": str(template)}))
    row = {"system": "Be brief.", **SOME[0]}
    assert errors_of(row) == []
    assert errors_of(row, reader) == ["refused"]
    assert errors_of(SOME[0], reader) == []
