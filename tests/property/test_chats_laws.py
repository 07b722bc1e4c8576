"""Laws of masks: exactly the answers are targets, every token is counted once, and a prompt is the beginning of what was trained."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.configuration.chat_settings import ChatSettings
from ml_playground.core.chat_encoding import ChatEncoder, control_of, marks_of, tokens_of
from ml_playground.core.chat_template import ChatTemplate
from ml_playground.core.tokenizer_protocol import BulkTokenizer
from ml_playground.core.values import Message
from ml_playground.data_pipeline.chats.masking import MaskedChat, Masking
from ml_playground.data_pipeline.chats.templates import template_text
from ml_playground.data_pipeline.chats.writing import weights_of
from ml_playground.tokenization.byte import ByteTokenizer
from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer
from ml_playground.tokenization.settings import ByteBpe, Word
from ml_playground.tokenization.word import WordTokenizer
from tests.fakes.chat_families import ENDS, STEADY, TEXT, THINKING, library_tokenizer, our_tokenizer, prepared_chats

with TemporaryDirectory() as _folder:
    LIBRARY = our_tokenizer(Path(_folder))
PLAIN: dict[str, BulkTokenizer] = {
    "byte": ByteTokenizer(),
    "byte_bpe": ByteBpeTokenizer.train([TEXT], ByteBpe(vocab_size=300)),
    "word": WordTokenizer.train([TEXT, "User Assistant :\n"], Word(min_count=1)),
}

# What disturbs borders: blanks and line breaks at the ends, characters of several bytes, and what looks like special tokens.
words = st.sampled_from(
    [
        "What",
        " is",
        "It",
        "1",
        "\n",
        " ",
        "  ",
        "ä",
        "😀",
        "日本",
        "<|im_end|>",
        "</s>",
        "<think>",
        "a",
        "I think",
        ".",
        "\t",
    ]
)
contents = st.lists(words, min_size=1, max_size=6).map("".join).filter(lambda text: bool(text.strip()))
chats = st.lists(st.tuples(contents, contents), min_size=1, max_size=4).map(
    lambda pairs: tuple(
        Message(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)
    )
)


def masking_of(text: str, tokenizer: BulkTokenizer, **fields: object) -> Masking:
    """The masks of a template, for a tokenizer."""
    control = control_of(tokenizer)
    template = ChatTemplate(text, tokens=tokens_of(tokenizer), control=control)
    return Masking(template, ChatSettings.model_validate(fields), control, tuple(marks_of(tokenizer)))


def encoded(rows: Sequence[MaskedChat], tokenizer: BulkTokenizer) -> list[tuple[list[int], np.ndarray]]:
    """Ids and weights of rows."""
    found = ChatEncoder(tokenizer).encode([row.rendered for row in rows], [row.borders for row in rows])
    return [(one.ids.tolist(), weights_of(row, one)) for row, one in zip(rows, found, strict=True)]


def spans(weights: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of targets."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], weights > 0, [0]])))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


@pytest.mark.parametrize("family", STEADY)
@settings(max_examples=40, deadline=None)
@given(messages=chats)
def test_targets_are_the_answers_with_their_end_marks_in_order(family: str, messages: tuple[Message, ...]) -> None:
    """Nothing of a prompt, all of an answer, and the mark that ends it, for each family of templates."""
    (row,) = masking_of(STEADY[family], LIBRARY).rows(messages)
    ((ids, weights),) = encoded([row], LIBRARY)
    end = LIBRARY.marks[ENDS[family]]
    answers = [message.content for message in messages if message.role == "assistant"]
    found = spans(weights)
    assert [LIBRARY.decode(ids[start:stop]).strip() for start, stop in found] == [answer.strip() for answer in answers]
    assert all(ids[stop - 1] == end and end not in ids[start : stop - 1] for start, stop in found)


@pytest.mark.parametrize("family", STEADY)
@settings(max_examples=40, deadline=None)
@given(messages=chats)
def test_prompt_of_inference_is_the_beginning_of_what_was_trained(family: str, messages: tuple[Message, ...]) -> None:
    """The first answer's prompt, encoded alone, gives the first ids of the row; the answer's targets follow at once."""
    masking = masking_of(STEADY[family], LIBRARY)
    (row,) = masking.rows(messages)
    ((ids, weights),) = encoded([row], LIBRARY)
    template = ChatTemplate(STEADY[family], tokens=tokens_of(LIBRARY), control=control_of(LIBRARY))
    prompt = ChatEncoder(LIBRARY).ids(template.rendered(messages[:1], add_generation_prompt=True))
    assert ids[: len(prompt)] == prompt
    assert spans(weights)[0][0] == len(prompt)


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=40, deadline=None)
@given(messages=chats)
def test_tokenizers_without_special_tokens_in_texts_obey_the_same_laws(
    name: str, messages: tuple[Message, ...]
) -> None:
    """With the template plain: the prompt is the beginning, and targets are the answers and the end mark."""
    tokenizer = PLAIN[name]
    text = template_text("plain", tokenizer)
    (row,) = masking_of(text, tokenizer).rows(messages)
    ((ids, weights),) = encoded([row], tokenizer)
    found = spans(weights)
    template = ChatTemplate(text, tokens=tokens_of(tokenizer), control=control_of(tokenizer))
    prompt = ChatEncoder(tokenizer).ids(template.rendered(messages[:1], add_generation_prompt=True))
    assert (ids[: len(prompt)], found[0][0]) == (prompt, len(prompt))
    answers = [message.content for message in messages if message.role == "assistant"]
    assert [tokenizer.decode(ids[a:b]) for a, b in found] == [
        tokenizer.decode(tokenizer.encode(one)) for one in answers
    ]
    assert [ids[stop - 1] for _, stop in found] == [tokenizer.specials.eos] * len(answers)
    assert ids.count(tokenizer.specials.eos or 0) == len(answers)


@settings(max_examples=60, deadline=None)
@given(messages=chats)
def test_ids_are_those_of_the_library_with_control_tokens_in_messages_as_text(messages: tuple[Message, ...]) -> None:
    """`apply_chat_template(sanitize_control_tokens=True)` of transformers, but for cuts where an answer begins within a token."""
    (row,) = masking_of(STEADY["chatml"], LIBRARY).rows(messages)
    whole = ChatEncoder(LIBRARY).ids(row.rendered)
    table = [{"role": message.role, "content": message.content} for message in messages]
    wanted = library_tokenizer().apply_chat_template(
        table, chat_template=STEADY["chatml"], sanitize_control_tokens=True, return_dict=False
    )
    assert whole == wanted


@settings(max_examples=40, deadline=None)
@given(messages=chats)
def test_template_that_alters_turns_gives_each_answer_its_own_row(messages: tuple[Message, ...]) -> None:
    """In the row of an answer stands what inference would show, and the answer alone is a target: none is trained twice."""
    rows = masking_of(THINKING, LIBRARY, altered_turns="rows").rows(messages)
    template = ChatTemplate(THINKING, tokens=tokens_of(LIBRARY), control=control_of(LIBRARY))
    assert len(rows) == len(messages) // 2
    for number, (row, (ids, weights)) in enumerate(zip(rows, encoded(rows, LIBRARY), strict=True)):
        asked = messages[: 2 * number + 1]
        prompt = ChatEncoder(LIBRARY).ids(template.rendered(asked, add_generation_prompt=True))
        ((start, stop),) = spans(weights)
        assert row.messages == messages[: 2 * number + 2]
        assert (ids[:start], start) == (prompt, len(prompt))
        assert ids[stop - 1] == LIBRARY.marks["<|im_end|>"]
        assert LIBRARY.decode(ids[start:stop]).endswith(row.messages[-1].content)


row_of = st.tuples(contents, contents).map(
    lambda pair: {"messages": [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]}
)
bad_rows = st.sampled_from(
    ["{", '{"messages": [{"content": "x"}]}', '{"messages": [{"role": "user", "content": "x"}]}',
     '{"messages": [{"role": "assistant", "content": "x"}]}',
     '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]}']
)  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(
    good=st.lists(row_of, min_size=6, max_size=10),
    bad=st.lists(bad_rows, max_size=3),
    duplicates=st.sampled_from(["keep", "drop"]),
)
def test_every_chat_and_every_token_is_counted_once(
    tmp_path_factory: pytest.TempPathFactory, good: list[dict[str, object]], bad: list[str], duplicates: str
) -> None:
    """The ledger's counts are those of the files; rows that are dropped are named; the same rows give the same data again."""
    folder = tmp_path_factory.mktemp("chats")
    distinct = [{**row, "id": number} for number, row in enumerate(good)]
    for row in distinct[:5]:
        row["messages"] = [*row["messages"], *({"role": r, "content": str(row["id"])} for r in ("user", "assistant"))]  # type: ignore[misc]
    rows = [*distinct[:3], *bad, *distinct[3:]]
    fields = {"chat": {"on_bad_row": "drop"}, "duplicates": duplicates, "split_by": "document"}
    prepared = prepared_chats(folder, rows, **fields)
    ledger = prepared.manifest.ledger
    assert ledger.chats == len(rows)
    assert ledger.dropped["bad_row"].chats == len(bad) if bad else "bad_row" not in ledger.dropped
    assert len(ledger.bad_rows) == len(bad)
    for split, counts in ledger.splits.items():
        found = prepared.rows(split)
        assert (len(found), int(found.lengths.sum())) == (counts.rows, counts.tokens)
        assert sum(int(np.count_nonzero(found.weights(row))) for row in range(len(found))) == counts.trained
        assert [len(found.ids(row)) for row in range(len(found))] == found.lengths.tolist()
        assert sum(1 for _ in prepared.chats(split)) == counts.rows
    again = prepared_chats(folder, rows, **fields)
    assert (again.reused, again.fingerprint) == (True, prepared.fingerprint)
