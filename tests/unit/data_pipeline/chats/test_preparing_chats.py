"""Chats from files to a data set: what lies there, what is refused with file and line, what is dropped and counted."""

import gzip
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_playground.core.chat_encoding import ChatEncoder
from ml_playground.core.chat_facts import read_chat_facts
from ml_playground.core.chat_template import ChatTemplate
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats, open_chats
from ml_playground.data_pipeline.preparer import changed_source, prepare
from ml_playground.tokenization.loading import load_tokenizer
from tests.fakes.chat_families import (
    CHATML,
    GEMMA,
    OWN,
    SOME,
    STEADY,
    THINKING,
    chat_file,
    chat_settings,
    prepared_chats,
    turns,
)
from tests.fakes.prepared_text import prepare_settings

BPE = {"kind": "byte_bpe", "vocab_size": 280}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "home"))


def targets_of(prepared: PreparedChats, row: int = 0, split: str = "train") -> list[tuple[str, float]]:
    """Stretches of targets of a row: their text, special tokens left out, and their weight."""
    tokenizer, rows = load_tokenizer(prepared.tokenizer_folder), prepared.rows(split)
    ids, weights = rows.ids(row).tolist(), rows.weights(row)
    edges = [0, *(np.flatnonzero(np.diff(weights)) + 1).tolist(), len(ids)]
    parts = [(tokenizer.decode(ids[a:b]), float(weights[a])) for a, b in pairwise(edges)]
    return [(text, weight) for text, weight in parts if weight]


def test_row_is_the_rendered_chat_with_the_answers_as_targets(tmp_path: Path) -> None:
    """Ids of the library, weights beside them, the chat in words, the template, and what ends an answer."""
    prepared = prepared_chats(tmp_path, [turns("Hi", "Hello", "2+2?", "4", level=2), *SOME])
    tokenizer = load_tokenizer(prepared.tokenizer_folder)
    chat = next(prepared.chats("train"))
    assert chat.id == "chats.jsonl:1"
    assert chat.facts == {"level": 2}
    assert prepared.rows("train").ids(0).tolist() == ChatEncoder(tokenizer).ids(
        prepared.template.rendered(chat.messages)
    )
    assert targets_of(prepared) == [("Hello", 1.0), ("4", 1.0)]
    facts = read_chat_facts(prepared.tokenizer_folder)
    assert [tokenizer.marks[text] for text in ("<|im_end|>",)] == list(facts.stop_ids)  # type: ignore[attr-defined]
    assert len(facts.held_out) == prepared.manifest.rows["val"]
    assert facts.held_out[0].example.messages == next(prepared.chats("val")).messages


@pytest.mark.parametrize("family", STEADY)
def test_every_family_is_prepared_by_its_own_template(tmp_path: Path, family: str) -> None:
    """`auto` takes the tokenizer's own, and the mask is that of the answers."""
    prepared = prepared_chats(tmp_path, template=STEADY[family])
    assert targets_of(prepared)[0][0].strip() == "It is 0."


def test_weights_are_the_rows_own_then_those_of_the_roles(tmp_path: Path) -> None:
    """Zero leaves a message out of the targets, a half halves it; users are trained on where that is asked for."""
    row: dict[str, Any] = turns("a", "one", "b", "two", "c", "three")
    row["messages"][1]["weight"], row["messages"][3]["weight"] = 0, 0.5
    prepared = prepared_chats(tmp_path, [row, *SOME], chat={"user_weight": 0.25})
    found = [(text.strip(), weight) for text, weight in targets_of(prepared)]
    assert found == [("user\na", 0.25), ("user\nb", 0.25), ("two", 0.5), ("user\nc", 0.25), ("three", 1.0)]


def test_plain_template_works_with_a_tokenizer_that_learns(tmp_path: Path) -> None:
    """Its end mark ends answers; the training part alone is learnt from; packed files are read."""
    path = tmp_path / "chats.jsonl.gz"
    path.write_bytes(gzip.compress(chat_file(tmp_path / "plain.jsonl", SOME).read_bytes()))
    prepare(chat_settings(path, BPE, chat={"template": "plain"}), Deps())
    prepared = open_chats(prepare(chat_settings(path, BPE, chat={"template": "plain"}), Deps()).folder)
    assert targets_of(prepared) == [("It is 0.", 1.0)]
    assert read_chat_facts(prepared.tokenizer_folder).stop_ids == (
        load_tokenizer(prepared.tokenizer_folder).specials.eos,
    )


def test_preferences_are_two_rows_of_one_prompt(tmp_path: Path) -> None:
    """The better one first; the last answer alone is a target in either."""
    rows = [{"prompt": f"{n}?", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(6)]
    whole = {"chosen": turns("a", "b", "c", "good")["messages"], "rejected": turns("a", "b", "c", "bad")["messages"]}
    prepared = prepared_chats(tmp_path, [whole, *rows], kind="jsonl_preference")
    assert prepared.manifest.pairs
    assert (targets_of(prepared, 0), targets_of(prepared, 1)) == ([("good", 1.0)], [("bad", 1.0)])
    first, second = (prepared.rows("train").ids(row).tolist() for row in (2, 3))
    assert [chat.messages[-1].content for chat in prepared.chats("train")][2:4] == ["yes 0", "no 0"]
    assert first != second
    counts = prepared.manifest.ledger.splits["train"]
    assert counts.rows == 2 * counts.chats


def test_template_that_alters_turns_is_refused_or_makes_rows(tmp_path: Path) -> None:
    """One setting decides; what was thought before earlier answers is then trained as inference shows it."""
    rows = [turns("a", "one", "b", "two"), *SOME]
    with pytest.raises(
        DataError,
        match=r"chats.jsonl:1: the template alters earlier turns: message 2 \(assistant\).*altered_turns = 'rows'",
    ):
        prepared_chats(tmp_path, rows, template=THINKING)
    prepared = prepared_chats(tmp_path, rows, template=THINKING, chat={"altered_turns": "rows"})
    assert targets_of(prepared, 0)[0][0].endswith("one")
    assert targets_of(prepared, 1)[0][0].endswith("two")
    counts = prepared.manifest.ledger.splits["train"]
    assert counts.rows == counts.chats + 1


BAD: dict[str, tuple[Any, str]] = {
    "malformed": ('{"messages": [', r"chats\.jsonl:3: column 15: .*; correct the row, or leave such rows out"),
    "no role": ({"messages": [{"content": "x"}]}, r"chats\.jsonl:3: messages\[0\] has no role; correct the row"),
    "orphan": ({"messages": [{"role": "assistant", "content": "x"}]}, r":3: message 1 is an answer to nobody: .*add one, or give"),
    "misspelt user": (
        {"messages": [{"role": "usr", "content": "a"}, {"role": "assistant", "content": "b"}]},
        r":3: message 2 is an answer to nobody: no user's .* before it: messages\[0\]\.role = 'usr'; did you mean 'user'\?",
    ),
    "misspelt assistant": (
        {"messages": [{"role": "user", "content": "a"}, {"role": "asistant", "content": "b"}]},
        r":3: no token .*\(roles: asistant, user\): messages\[1\]\.role = 'asistant'; did you mean 'assistant'\?",
    ),
    "nothing like it": (
        {"messages": [{"role": "narrator", "content": "a"}, {"role": "assistant", "content": "b"}]},
        r":3: message 2 is an answer to nobody: no user's message stands before it; add one, or give",
    ),
    "empty answer": (turns("a", " "), r":3: message 2 is an empty answer; write one, or give it the weight 0"),
    "named, and empty": (
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "name": "b"}]},
        r":3: message 2 is an empty answer; write one",
    ),
    "a call alone": (
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]},
        r":3: the template writes nothing of the answer in message 2, which has no text but tool_calls; take a template that knows",
    ),
    "no answer": (turns("a"), r":3: no token of it would be a target: it has no answer .*\(roles: user\); add one"),
    "all masked": ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": False}]},
                   r":3: no token of it would be a target: each of its answers has the weight 0"),
    "half a character": ('{"prompt": "a\\ud800", "completion": "b"}', r":3: it holds half a surrogate pair"),
    "tools": (turns("a", "b", tools="{"), r":3: its tools are a text that is no JSON"),
    "tools of a kind": (turns("a", "b", tools={"a": 1}), r":3: its tools are no list"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_row_is_an_error_with_file_and_line_or_is_dropped_and_counted(tmp_path: Path, name: str) -> None:
    """What is wrong, where, and what to do; or the rest, with the row in the ledger."""
    row, message = BAD[name]
    rows = [*SOME[:2], row, *SOME[2:]]
    with pytest.raises(DataError, match=message) as error:
        prepared_chats(tmp_path, rows)
    assert "prepare.chat.on_bad_row = 'drop'" in str(error.value)
    ledger = prepared_chats(tmp_path, rows, chat={"on_bad_row": "drop"}).manifest.ledger
    assert (ledger.chats, ledger.dropped["bad_row"].chats) == (9, 1)
    assert ledger.bad_rows[0].id == "chats.jsonl:3"
    assert sum(counts.chats for counts in ledger.splits.values()) == 8


REFUSING = CHATML.replace(
    "{%- for", "{%- if messages|length > 9 %}{{ raise_exception('too many') }}{% endif %}{%- for", 1
)
NO_END = CHATML.replace("<|im_end|>", "")
OTHER_PROMPT = CHATML.replace("{{ '<|im_start|>assistant\\n' }}", "{{ '<|im_start|>assistant\\n<think>' }}")


@pytest.mark.parametrize(
    ("template", "rows", "message"),
    [
        (NO_END, SOME, r":1: the template writes no end mark after the answer in message 2 \(it ends in .*eos_token"),
        (OTHER_PROMPT, SOME, r":1: the template asks for message 2 with .* and writes .*take a template whose prompt"),
        (
            GEMMA,
            [turns("a", "b", system="s")],
            r":1: the template does not take these messages \(system, user, assistant\): there is no role",
        ),
        (REFUSING, [turns(*"abcdefghij")], r":1: the template does not take these messages .*: too many"),
    ],
)
def test_template_that_cannot_be_trained_with_is_refused(
    tmp_path: Path, template: str, rows: list[Any], message: str
) -> None:
    """Before anything is trained: no end mark, a prompt that is no beginning of an answer, roles that it refuses."""
    with pytest.raises(DataError, match=message):
        prepared_chats(tmp_path, [*rows, *SOME], template=template)


@pytest.mark.parametrize(
    ("name", "tokenizer", "message"),
    [
        ("auto", BPE, r"'auto' means the tokenizer's own template, and this tokenizer has none; set .*'plain'"),
        (
            "chatmll",
            BPE,
            r"prepare.chat.template = 'chatmll' is no template.*did you mean 'chatml'.*allowed: auto, chatml, plain",
        ),
        (
            "chatml",
            BPE,
            r"ends answers with <\|im_end\|>, which is no token of this tokenizer.*set prepare.chat.template = 'plain'",
        ),
        (
            "plain",
            "char",
            r"'plain' ends answers with the tokenizer's end mark, and this tokenizer has none; take another kind",
        ),
    ],
)
def test_unknown_or_unfit_template_is_refused(tmp_path: Path, name: str, tokenizer: Any, message: str) -> None:
    """With what to set instead."""
    path = chat_file(tmp_path / "chats.jsonl", SOME)
    chosen = {"kind": tokenizer} if isinstance(tokenizer, str) else tokenizer
    with pytest.raises(ConfigError, match=message):
        prepare(chat_settings(path, chosen, chat={"template": name}), Deps())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{{ raise_exception('not today') }}",
            r"There is no text to learn a vocabulary from, .*chats\.jsonl:1: the template does not take .*: not today",
        ),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "so it may never end; correct",
        ),
    ],
)
def test_template_that_renders_no_chat_is_told_while_the_vocabulary_is_learnt(
    tmp_path: Path, text: str, message: str
) -> None:
    """Not that there were no text; and one without an end is not asked once more for each row."""
    (tmp_path / "own.jinja").write_text(text)
    path = chat_file(tmp_path / "chats.jsonl", SOME)
    with pytest.raises(DataError, match=message):
        prepare(chat_settings(path, BPE, chat={"template": str(tmp_path / "own.jinja")}), Deps())


def test_template_file_decides_about_the_data_set(tmp_path: Path) -> None:
    """A file is a template; one that is none is refused, and one that changed is noticed."""
    path, file = chat_file(tmp_path / "chats.jsonl", SOME), tmp_path / "own.jinja"
    file.write_text(OWN, encoding="utf-8")
    settings = chat_settings(path, BPE, chat={"template": str(file)})
    prepared = prepare(settings, Deps())
    assert isinstance(prepared, PreparedChats)
    assert targets_of(prepared)[0][0].strip() == "It is 0."
    assert changed_source(settings, Deps()) is None
    file.write_text("{% if %}", encoding="utf-8")
    assert changed_source(settings, Deps()) == "of the tokenizer's files own.jinja changed"
    with pytest.raises(DataError, match="own.jinja changed"):
        prepare(settings, Deps())
    with pytest.raises(ConfigError, match=r"The chat template is no Jinja template: .*line 1"):
        prepare(settings, Deps(), fresh=True)


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        (
            {"assistant_weight": 0},
            r":1: no token of it would be a target, for prepare.chat.assistant_weight = 0; raise it",
        ),
        (
            {"assistant_weight": 0, "user_weight": 1},
            "No answer of the training part is a target, so that no model would learn to end",
        ),
        ({"most_masked": 0.01}, r"% of all tokens are no targets, more than prepare.chat.most_masked = 0.01 allows"),
        (
            {"least_masked": 0.99},
            r"% of all tokens are no targets, less than prepare.chat.least_masked = 0.99 asks for",
        ),
    ],
)
def test_masks_that_teach_nothing_are_refused(tmp_path: Path, chat: dict[str, Any], message: str) -> None:
    """No answers, an end mark that is never a target, a share outside of the limits."""
    with pytest.raises(DataError, match=message):
        prepared_chats(tmp_path, chat=chat)


def test_end_mark_that_is_the_padding_too_is_a_target(tmp_path: Path) -> None:
    """Masks go by place, not by id: the tokenizer's pad is its end mark here, and every answer still ends with one as a target."""
    prepared = prepared_chats(tmp_path, template=STEADY["mistral"])
    specials = load_tokenizer(prepared.tokenizer_folder).specials
    rows = prepared.rows("train")
    assert specials.pad == specials.eos
    assert all((rows.ids(row)[-1], rows.weights(row)[-1]) == (specials.eos, 1.0) for row in range(len(rows)))


def test_splits_go_by_whole_chats(tmp_path: Path) -> None:
    """By position the last ones; by hash whatever their ids say; an empty split, or too few chats, are errors."""
    prepared = prepared_chats(tmp_path, test_fraction=0.25)
    ids = [chat.id for split in ("train", "val", "test") for chat in prepared.chats(split)]
    assert ids == [f"chats.jsonl:{line}" for line in range(1, 9)]
    with pytest.raises(DataError, match=r"The source has 1 chat, too few for train, val .*give it more chats"):
        prepared_chats(tmp_path, SOME[:1])
    with pytest.raises(DataError, match=r"puts none of the chats into 'val'; raise that split's fraction"):
        prepared_chats(tmp_path, SOME, split_by="hash", val_fraction=0.0001)


def test_copies_are_counted_and_dropped_where_that_is_asked_for(tmp_path: Path) -> None:
    """The data set is then that of the source without them, to the token."""
    rows = [*SOME[:4], SOME[0], SOME[1], *SOME[4:]]
    kept = prepared_chats(tmp_path, rows).manifest.ledger
    dropped = prepared_chats(tmp_path, rows, duplicates="drop")
    (tmp_path / "without").mkdir()
    without = prepared_chats(tmp_path / "without", SOME)
    assert (kept.copies, dropped.manifest.ledger.dropped["duplicate"].chats) == (2, 2)
    assert dropped.manifest.ledger.dropped["duplicate"].tokens > 0
    for split in ("train", "val"):
        assert np.array_equal(dropped.rows(split).tokens, without.rows(split).tokens)


def test_answers_of_a_pair_that_are_the_same_are_refused(tmp_path: Path) -> None:
    """Nothing is preferred there."""
    rows = [{"prompt": f"{n}?", "chosen": "x", "rejected": "x" if n == 1 else "y"} for n in range(5)]
    with pytest.raises(DataError, match=r":2: what is chosen and what is rejected are the same; leave the row out"):
        prepared_chats(tmp_path, rows, kind="jsonl_preference")


def test_what_the_tokenizer_does_not_know_is_lost_and_limited(tmp_path: Path) -> None:
    """In bytes of the text, with the chat of which most is lost."""
    rows = [*(turns("ab", "ba") for _ in range(8)), turns("ab", "ä" * 40)]
    path = chat_file(tmp_path / "chats.jsonl", rows)
    word = {"kind": "word", "min_count": 1}
    settings = chat_settings(path, word, chat={"template": "plain"}, max_loss_fraction=0.01)
    with pytest.raises(
        DataError, match=r"of the text would be lost.*80 bytes in characters.*Most is lost in chats.jsonl:9"
    ):
        prepare(settings, Deps())


def test_modality_needs_a_tokenizer() -> None:
    """Chats become ids as texts do."""
    with pytest.raises(ValueError, match=r"gives chats, and there is no tokenizer to make ids of it"):
        prepare_settings({"kind": "jsonl_chat", "path": "x.jsonl"}, tokenizer=None)


def test_day_of_preparing_is_what_templates_are_told(tmp_path: Path) -> None:
    """Prepared data are a function of settings and day, and the day is kept."""
    dated = "{{ strftime_now('%Y') }}" + CHATML
    prepared = prepared_chats(tmp_path, template=dated)
    today = read_chat_facts(prepared.tokenizer_folder).today
    messages = next(prepared.chats("train")).messages
    assert prepared.template.render(messages).startswith(f"{today.year}<|im_start|>")
    other = ChatTemplate.load(prepared.tokenizer_folder, today=date(1999, 1, 1))
    assert other.render(messages).startswith("1999<|im_start|>")


@pytest.mark.parametrize("split_by", ["position", "document", "hash"])
def test_copies_stay_on_one_side(tmp_path: Path, split_by: str) -> None:
    """Nothing that is trained on is validated on, however often a chat comes and wherever."""
    rows = [turns(f"{number} and 1?", f"{number + 1}.") for number in range(30)]
    prepared = prepared_chats(tmp_path, [*rows, *rows[::-1], *rows], split_by=split_by, val_fraction=0.3)
    sides = {split: [chat.messages[-1].content for chat in prepared.chats(split)] for split in ("train", "val")}
    assert not set(sides["train"]) & set(sides["val"])
    assert sorted(sides["train"] + sides["val"]) == sorted(f"{number + 1}." for number in range(30) for _ in range(3))
    assert len(sides["val"]) % 3 == 0
    assert sides["val"]
