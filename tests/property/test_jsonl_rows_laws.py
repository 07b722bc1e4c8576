"""Laws of reading JSON Lines: no byte is lost, blocks do not matter, and nothing but an object or an error with its place comes out."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.foreign_files import DEEPEST_JSON
from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.sources.chat_rows import PAIRS, chat_of, with_words
from ml_playground.data_pipeline.sources.jsonl_rows import RowError, lines, parse_row

contents = st.binary(max_size=80) | st.lists(st.sampled_from([b"ab", b"\n", b"\r\n", b""]), max_size=20).map(b"".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def blocks(content: bytes, size: int) -> list[bytes]:
    """The content in blocks of a few bytes."""
    return [content[start : start + size] for start in range(0, len(content), size)]


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, or the error of a row that it raises."""
    try:
        return function(*arguments)
    except RowError as error:
        return error


@given(contents, st.integers(1, 90), st.integers(1, 90))
def test_lines_do_not_depend_on_blocks_and_lose_nothing(content: bytes, size: int, most_bytes: int) -> None:
    """Together they are the file again; where a line is cut, its size is still told."""
    found = list(lines(blocks(content, size), most_bytes))
    assert found == list(lines([content], most_bytes))
    whole = list(lines([content], len(content) + 1))
    assert b"".join(line.raw + b"\n" * line.ended for line in whole) == content
    assert [line.raw[:most_bytes] for line in whole] == [line.raw for line in found]
    assert [line.size_bytes for line in found] == [len(line.raw) for line in whole]
    assert [line.number for line in found] == list(range(1, len(found) + 1))
    assert all(before.offset + before.size_bytes + 1 == after.offset for before, after in pairwise(found))


@given(st.dictionaries(st.text(), values, max_size=5))
def test_every_object_of_json_is_read_as_json_reads_it(row: dict[str, Any]) -> None:
    """The limits are beyond what rows hold."""
    assert parse_row(json.dumps(row).encode()) == row


@given(st.binary(max_size=60) | st.text('[]{}",:1eN-.a\\u0', max_size=60).map(str.encode))
def test_any_bytes_are_an_object_or_an_error_of_this_module(raw: bytes) -> None:
    """No other exception comes out of a file of somebody else."""
    row = outcome(parse_row, raw)
    assert isinstance(row, dict | RowError)
    assert not isinstance(row, RowError) or row.column is None or 1 <= row.column <= len(raw) + 1


@given(values)
def test_any_value_is_a_chat_or_an_error_of_this_module(value: Any) -> None:
    """Whatever stands where messages should."""
    for row in (
        {"messages": value},
        {"messages": [value]},
        {"messages": [{"role": value, "content": value}]},
        {"text": value},
    ):
        chat = outcome(chat_of, row, "id")
        if isinstance(chat, RowError):
            assert chat.code == "bad_message"
        else:
            assert all(isinstance(message.content, str) for message in chat.messages)


@pytest.mark.parametrize(
    ("raw", "code", "column", "words"),
    [
        (b'{"a": 1,}', "broken_json", 9, "got '}'"),
        (b'{"a": "x', "broken_json", 7, "Unterminated string"),
        (b'{"a": 1', "broken_json", 8, "got the end of the line"),
        (b'{"a": 1} {"b": 2}', "broken_json", 10, "Extra data"),
        (b'{"a": "\x01"}', "broken_json", 8, "control character"),
        (b'{"NaN": NaN}', "no_json_number", 9, "NaN is no JSON"),
        (b'{"a": -Infinity}', "no_json_number", 7, "-Infinity is no JSON"),
        (b'{"a": 1e999}', "no_json_number", 7, "too large"),
        (b'{"a": ' + b"9" * 500 + b"}", "no_json_number", 7, "500 digits"),
        (b'{"a": 1, "a": 2}', "duplicate_key", None, "'a' stands twice"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "nested_too_deep", 56, "50 brackets"),
        (b'{"a": ' + b"[" * 100_000, "nested_too_deep", 56, "50 brackets"),
        (b"[1]", "not_an_object", 1, "a list"),
        (b'"a"', "not_an_object", 1, "a text"),
        (b"1", "not_an_object", 1, "a number"),
        (b"\0{\0", "wrong_encoding", 1, "holds NUL"),
        (b" [ ", "not_an_object", 1, "a list over many lines is not JSON Lines"),
        (b'{"a": "\xc3\xa4\xff"}', "wrong_encoding", 9, "0xff is no UTF-8"),
    ],
)
def test_row_that_cannot_be_read_says_why_and_where(raw: bytes, code: str, column: int | None, words: str) -> None:
    """Columns are characters, from 1, as editors count them."""
    with pytest.raises(RowError) as caught:
        parse_row(raw)
    assert (caught.value.code, caught.value.column) == (code, column)
    assert words in str(caught.value)


def test_brackets_in_strings_are_not_depth() -> None:
    """A text about nested lists is a text."""
    text = "[" * (2 * DEEPEST_JSON) + '\\"' + "{" * DEEPEST_JSON
    assert parse_row(json.dumps({"a": [text]}).encode()) == {"a": [text]}


def test_mark_before_the_row_is_skipped() -> None:
    """Some editors put one at the start of a file."""
    assert parse_row(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


ASKED = (Message("user", "q"), Message("assistant", "a"))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "q"}]},
                {"role": "assistant", "content": ["a"]},
            ]
        },
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        *({prompt: "q", answer: "a"} for prompt, answer in PAIRS),
    ],
)
def test_spellings_of_a_chat_mean_the_same(row: dict[str, Any]) -> None:
    """What the published data sets use."""
    assert chat_of(row, "7") == ChatExample("7", ASKED)


def test_system_and_input_stand_where_they_belong() -> None:
    """Before the question, and below the instruction."""
    row = {"system": "s", "instruction": "add", "input": "1 and 2", "output": "3"}
    assert [message.content for message in chat_of(row, "").messages] == ["s", "add\n\n1 and 2", "3"]
    assert chat_of({"text": "once"}, "").messages == (Message("text", "once"),)


def test_tool_calls_without_content_are_kept_for_the_template_and_are_the_words() -> None:
    """Which writes them as its family does; whoever looks at the message sees the call, and loses nothing else of it."""
    calls = [{"name": "add"}]
    row = {"messages": [{"role": "assistant", "content": None, "tool_calls": calls, "weight": 0.5}]}
    (message,) = chat_of(row, "").messages
    assert message == Message("assistant", "", 0.5, {"tool_calls": calls})
    assert with_words(message) == Message("assistant", '[{"name": "add"}]', 0.5, {"tool_calls": calls})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"mesages": []},
            "holds 'mesages'; it needs messages, prompt and completion, or text; did you mean 'messages'?",
        ),
        ({}, "holds nothing"),
        ({"messages": "hello"}, "messages is a text, not a list"),
        ({"messages": [7]}, r"messages[0] is a number, not an object"),
        ({"messages": [{"content": "a"}]}, "messages[0] has no role"),
        ({"messages": [{"role": 7, "content": "a"}]}, "messages[0] has a number as its role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content is missing, not text"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, "messages[0].content is an object, not text"),
        ({"prompt": "q", "completion": None}, "completion is missing, not text"),
    ],
)
def test_row_without_a_chat_says_what_is_wrong(row: dict[str, Any], words: str) -> None:
    """By the path of what is wrong."""
    with pytest.raises(RowError) as caught:
        chat_of(row, "")
    assert words in str(caught.value)
