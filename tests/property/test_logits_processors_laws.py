"""Laws of what steers drawing: rows alone, nothing remembered, never NaN, every count reachable, every answer in the grammar."""

import math
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.profiles.after_stop import escalated
from ml_playground.profiles.emoji_think import EmojiThinkProfile
from ml_playground.profiles.grammar import GrammarError, canonical, parse
from ml_playground.profiles.grammar_enforcer import GrammarEnforcer
from ml_playground.profiles.regime3 import Regime3Profile
from ml_playground.profiles.settings import EmojiThink, PlainSft, Regime3
from ml_playground.profiles.text_bias import LIMIT, TextBias, biases_of
from ml_playground.profiles.token_texts import token_texts
from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer
from ml_playground.tokenization.char import CharTokenizer
from ml_playground.tokenization.hugging_face import HuggingFaceTokenizer
from ml_playground.tokenization.settings import ByteBpe, Char, HuggingFace
from tests.fakes.tokenizer_files import write_folder

START, END = "<<ANS_START>>", "<<ANS_END>>"
ANSWER = f"It is so: {START} (sub (add 12 -3.5) (list a_1 b-c)) {END}"
TEXT = f"{ANSWER}\n🤔🤔🤔\nHello <think> no </think>\n🛑🛑🛑🛑\n⏹️⏹️ {'abcdefghijklmnopqrstuvwxyz0123456789.'}\n" * 3
MAKES = ("char", "byte_bpe", "gpt2", "llama", "gemma", "qwen")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """Characters, bytes, and folders of each make."""
    found: dict[str, Tokenizer] = {
        "char": CharTokenizer.train([TEXT], Char()),
        "byte_bpe": ByteBpeTokenizer.train([TEXT], ByteBpe(vocab_size=400)),
    }
    for make in MAKES[2:]:
        folder = write_folder(tmp_path_factory.mktemp(make), make)
        found[make] = HuggingFaceTokenizer.train([TEXT], HuggingFace(path=folder))
    return found


def drawn_with(
    processors: Sequence[Any], logits_of: Callable[[list[int]], torch.Tensor], stops: set[int], most: int
) -> list[int]:
    """Greedy drawing."""
    ids: list[int] = []
    while len(ids) < most:
        logits = logits_of(ids)
        for processor in processors:
            logits = processor(logits, [ids])
        ids.append(int(logits[0].argmax()))
        if ids[-1] in stops:
            break
    return ids


def wishing(script: Sequence[int], width: int) -> Callable[[list[int]], torch.Tensor]:
    """A model that wants one sequence, and after it noise."""

    def logits_of(ids: list[int]) -> torch.Tensor:
        logits = torch.zeros(1, width)
        if len(ids) < len(script):
            logits[0, script[len(ids)]] = 5.0
        else:
            logits[0, len(ids) % width] = 5.0
        return logits

    return logits_of


@pytest.mark.parametrize("make", ["char", "byte_bpe", "gpt2"])
@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("emoji", ["🛑", "⏹️"])
def test_every_count_of_stop_emojis_can_be_drawn(
    tokenizers: dict[str, Tokenizer], make: str, times: int, emoji: str
) -> None:
    """Two, three and four come out as the model wants them, and then the turn ends as it wants."""
    tokenizer = tokenizers[make]
    stop = tokenizer.vocab_size
    processors = EmojiThinkProfile(EmojiThink(), 1).logits_processors(tokenizer, {stop})
    script = [*tokenizer.encode("🤔🤔\nHello\n" + emoji * times), stop]
    assert drawn_with(processors, wishing(script, stop + 1), {stop}, 200) == script


@pytest.mark.parametrize("make", ["char", "byte_bpe", "gpt2"])
@pytest.mark.parametrize("times", [2, 3, 4])
def test_a_turn_ends_soon_after_its_stop_emojis(tokenizers: dict[str, Tokenizer], make: str, times: int) -> None:
    """A model that babbles on is made to stop; no more than the most emojis come."""
    tokenizer = tokenizers[make]
    stop = tokenizer.vocab_size
    processors = EmojiThinkProfile(EmojiThink(), 1).logits_processors(tokenizer, {stop})
    ids = drawn_with(processors, wishing(tokenizer.encode("Hello\n" + "🛑" * times), stop + 1), {stop}, 200)
    assert ids[-1] == stop
    assert re.fullmatch("Hello\n🛑{2,4}\ufffd?", tokenizer.decode(ids[:-1]))


def test_three_stop_emojis_are_no_end_where_four_are_the_fewest(tokenizers: dict[str, Tokenizer]) -> None:
    """Nothing is done before the fewest that may be asked for stand there, nor without a line of their own."""
    tokenizer = tokenizers["char"]
    profile = EmojiThinkProfile(EmojiThink(least_stops=4, most_stops=4, text_bias={}, bias_schedule=()), 1)
    (after,) = profile.logits_processors(tokenizer, {0})
    logits = torch.randn(1, tokenizer.vocab_size)
    for text in ("Hello\n🛑🛑🛑", "🛑🛑🛑🛑", "Hello"):
        assert torch.equal(after(logits, [tokenizer.encode(text)]), logits)
        assert after.statistics(tokenizer.encode(text)) == {"shown": None, "times": 0, "tokens_after": 0}
    assert after.statistics(tokenizer.encode("Hello\n🛑🛑🛑🛑 ab")) == {"shown": "🛑", "times": 4, "tokens_after": 3}


def all_processors(tokenizer: Tokenizer) -> list[Any]:
    """Of two profiles, anew."""
    stops = {tokenizer.vocab_size - 1}
    emojis = EmojiThinkProfile(EmojiThink(text_bias={"<think>": -80.0, "add": 3.0}), 1)
    return [*emojis.logits_processors(tokenizer, stops), *Regime3Profile(Regime3()).logits_processors(tokenizer, stops)]


PARTS = st.sampled_from([START, END, " ", "(", "add", "1", "\n🛑🛑", "🛑", "<think>", "<", "Hello", ")", "🤔\n"])


@settings(max_examples=25)
@given(
    texts=st.lists(st.lists(PARTS, max_size=8).map("".join), min_size=1, max_size=4), make=st.sampled_from(MAKES[:3])
)
def test_processors_treat_rows_alone_and_remember_nothing(
    tokenizers: dict[str, Tokenizer], texts: list[str], make: str
) -> None:
    """A batch is its rows; old objects and new ones agree, in any order and any float type; never NaN; nothing in place."""
    tokenizer = tokenizers[make]
    rows = [tokenizer.encode(text) for text in texts]
    logits = torch.randn(len(rows), tokenizer.vocab_size + 3, generator=torch.Generator().manual_seed(1))
    for used, new in zip(KEPT.setdefault(make, all_processors(tokenizer)), all_processors(tokenizer), strict=True):
        before = logits.clone()
        together = used(logits, rows)
        assert torch.equal(logits, before)
        assert not together.isnan().any()
        alone = [new(logits[row : row + 1], [ids]) for row, ids in reversed(list(enumerate(rows)))]
        assert torch.equal(together, torch.cat(alone[::-1]))
        assert used(logits.half(), rows).dtype == torch.float16
        assert not used(logits.half(), rows).isposinf().any()
        assert [used.statistics(ids) for ids in rows] == [new.statistics(ids) for ids in rows]


KEPT: dict[str, list[Any]] = {}


@given(base=st.floats(0, 1e300), growth=st.floats(1, 1e300), tokens=st.integers(0, 10**9))
def test_escalation_grows_up_to_a_limit(base: float, growth: float, tokens: int) -> None:
    """The power where it is small, the limit where it is not; never infinite on the way."""
    found = escalated(base, growth, tokens)
    assert 0 <= found <= LIMIT
    assert escalated(base, growth, tokens + 1) >= found
    if tokens == 0 and base < LIMIT:
        assert math.isclose(found, base, rel_tol=1e-9)


def test_no_logits_overflow_after_a_thousand_tokens_too_many(tokenizers: dict[str, Tokenizer]) -> None:
    """What the former rule made infinite is a finite number in every float type."""
    tokenizer = tokenizers["char"]
    (after,) = Regime3Profile(Regime3(enforce=False)).logits_processors(tokenizer, {0})
    ids = tokenizer.encode(END + "a" * 1000)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        found = after(torch.zeros(1, tokenizer.vocab_size, dtype=dtype), [ids])
        assert found.isfinite().all()
        assert int(found.argmax()) == 0
        assert found.softmax(-1)[0, 0] == 1


@settings(max_examples=30)
@given(
    before=st.text("<think> a", max_size=9),
    text=st.sampled_from(["<think>", "aa", "a a", "<<", "k"]),
    make=st.sampled_from(["char", "byte_bpe"]),
)
def test_text_bias_finds_every_token_that_completes_a_text(
    tokenizers: dict[str, Tokenizer], before: str, text: str, make: str
) -> None:
    """By automaton as by trying every token; a reward goes to every token that brings the text nearer, once."""
    tokenizer = tokenizers[make]
    texts, ids = token_texts(tokenizer), tokenizer.encode(before)
    zeros = torch.zeros(1, len(texts))
    penalised = TextBias(text, -2.0, [], texts)(zeros, [ids])[0]
    rewarded = TextBias(text, 2.0, [], texts)(zeros, [ids])[0]
    so_far = "".join(texts[index] for index in ids)
    for index, token in enumerate(texts):
        completes = any(
            text in (so_far + token)[: at + 1] and (so_far + token)[: at + 1].endswith(text)
            for at in range(len(so_far), len(so_far + token))
        )
        assert bool(penalised[index]) == completes, token
        nearer = completes or borders(so_far + token, text) > borders(so_far, text) % len(text)
        assert bool(rewarded[index]) == (nearer and text not in so_far), token


def borders(written: str, text: str) -> int:
    """How much of a text stands at the end of what is written; all of it counts as what of it begins the next one."""
    return max(size for size in range(len(text)) if written.endswith(text[:size]))


def test_text_bias_follows_its_schedule_and_counts(tokenizers: dict[str, Tokenizer]) -> None:
    """80 x 8 for four tokens, x 2, x 1.5, then x 1; nothing is penalised where no token completes the text."""
    tokenizer = tokenizers["char"]
    chosen = PlainSft(text_bias={"k": -80.0}, bias_schedule=("4x8", "4x2", "4x1.5"))
    (bias,) = biases_of(chosen, tokenizer)
    (key,) = tokenizer.encode("k")
    zeros = torch.zeros(1, tokenizer.vocab_size)
    amounts = [float(bias(zeros, [tokenizer.encode("a" * count)])[0, key]) for count in range(14)]
    assert amounts == [-640.0] * 4 + [-160.0] * 4 + [-120.0] * 4 + [-80.0] * 2
    assert bias.label == "penalty on 'k'"
    assert bias.statistics(tokenizer.encode("akkab")) == {"times": 2, "drawn": 5, "amount": -160.0}
    (tag,) = biases_of(PlainSft(text_bias={"<think>": -80.0}), tokenizer)
    assert torch.equal(tag(zeros, [tokenizer.encode("a<")]), zeros)
    assert biases_of(PlainSft(), tokenizer) == ()


def keeps_the_grammar(answer: str) -> bool:
    """Whether what stands behind a start mark can become an answer, by trying to complete it."""
    body = answer.removeprefix(" ")
    if not answer.startswith(" ") or not body:
        return answer in ("", " ")
    for size in range(len(END) + 1):
        mark = " " + END[:size]
        if body.endswith(mark) and in_layout(body.removesuffix(mark)):
            return True
    return any(in_layout(body + more + ")" * depth) for more in ("", "1", "a", "a 1") for depth in range(12))


def in_layout(text: str) -> bool:
    """Whether a text is an expression with its blanks where the canonical form has them."""
    try:
        parse(text)
    except GrammarError:
        return False
    return not re.search(r"^ | $|  |\( | \)|[\t\n\r]", text)


@settings(max_examples=40)
@given(data=st.data(), make=st.sampled_from(MAKES), steps=st.integers(0, 25))
def test_enforcer_allows_exactly_what_keeps_the_grammar(
    tokenizers: dict[str, Tokenizer], data: st.DataObject, make: str, steps: int
) -> None:
    """Along a random path: each token of the vocabulary is allowed if, and only if, the answer can still be completed."""
    texts = token_texts(tokenizers[make])
    enforcer = GrammarEnforcer(START, END, texts)
    dice = random.Random(data.draw(st.integers(0, 10**6)))
    ids: list[int] = tokenizers[make].encode(f"so {START}")
    answer = "".join(texts[index] for index in ids).partition(START)[2]
    for step in range(steps + 1):
        allowed = enforcer(torch.zeros(1, len(texts)), [ids])[0].isfinite().tolist()
        if step == steps:
            break
        ids.append(dice.choice([index for index, fits in enumerate(allowed) if fits]))
        answer += texts[ids[-1]]
        if END in answer:
            return
    for token, fits in zip(texts, allowed, strict=True):
        whole = answer + token
        wanted = bool(token) and (
            keeps_the_grammar(whole) or (f" {END}" in whole and in_layout(whole.partition(f" {END}")[0][1:]))
        )
        assert fits == wanted, (answer, token)


@pytest.mark.parametrize("make", MAKES)
def test_enforced_drawing_at_random_ends_in_an_expression(tokenizers: dict[str, Tokenizer], make: str) -> None:
    """Whatever the model wants: what stands between the marks can be parsed, and is laid out canonically."""
    tokenizer = tokenizers[make]
    texts = token_texts(tokenizer)
    enforcer = GrammarEnforcer(START, END, texts)
    noise = torch.Generator().manual_seed(3)
    closing = torch.tensor([1.5 * (text.count(")") + text.count(">") + text.count(" <")) for text in texts])
    finished = 0
    for _ in range(6):
        ids = tokenizer.encode(START)
        while len(ids) < 250 and not enforcer.statistics(ids)["answers"]:
            logits = enforcer(closing + torch.randn(1, len(texts), generator=noise), [ids])
            ids.append(int(torch.distributions.Categorical(logits=logits[0]).sample()))
        if enforcer.statistics(ids) == {"answers": 1, "broken": 0, "unfinished": False}:
            finished += 1
            written = "".join(texts[index] for index in ids).partition(START)[2].partition(END)[0]
            assert in_layout(written.removeprefix(" ").removesuffix(" "))
            assert canonical(written)
    assert finished > 0


def test_enforcer_lets_every_other_text_through(tokenizers: dict[str, Tokenizer]) -> None:
    """Before an answer and behind it everything may come, also ids that only the model knows."""
    tokenizer = tokenizers["char"]
    enforcer = GrammarEnforcer(START, END, token_texts(tokenizer))
    logits = torch.randn(1, tokenizer.vocab_size + 5)
    for text in ("", "Hello (", "<<ANS_STAR", ANSWER, f"{ANSWER} and {ANSWER}"):
        assert torch.equal(enforcer(logits, [tokenizer.encode(text)]), logits)
    within = enforcer(logits, [tokenizer.encode(START)])
    assert within[0, tokenizer.vocab_size :].isneginf().all()


def test_enforcer_without_a_way_on_leaves_the_row_alone() -> None:
    """A vocabulary that lacks what the grammar needs breaks the answer off, which statistics say; it draws no NaN."""
    enforcer = GrammarEnforcer("[", "]", ["[", "x", "]"])
    logits = torch.randn(1, 3)
    assert torch.equal(enforcer(logits, [[0]]), logits)
    assert enforcer.statistics([0, 1]) == {"answers": 0, "broken": 1, "unfinished": False}
    assert enforcer.statistics([0]) == {"answers": 0, "broken": 0, "unfinished": True}
    only_forbidden = torch.full((1, 2), -torch.inf)
    only_forbidden[0, 1] = 0.0
    assert torch.equal(
        GrammarEnforcer("[", "]", ["[", " "])(only_forbidden[:, [1, 0]], [[0]]), only_forbidden[:, [1, 0]]
    )


def test_calls_within_each_other_end_at_the_limit() -> None:
    """What the enforcer lets through, the parser reads."""
    texts = list("[] (a)1")
    enforcer = GrammarEnforcer("[", "]", texts)
    opened = [0, 2, *[3, 4, 2] * 64]
    allowed = enforcer(torch.zeros(1, len(texts)), [opened])[0].isfinite().tolist()
    assert [text for text, fits in zip(texts, allowed, strict=True) if fits] == ["a", "1"]
    assert parse("".join(texts[index] for index in opened[2:]) + "a" + ")" * 64)


def test_settings_decide_which_processors_there_are(tokenizers: dict[str, Tokenizer]) -> None:
    """None that does nothing is built."""
    tokenizer = tokenizers["char"]
    idle: dict[str, Any] = {"penalty_after_end": 0.0, "end_reward": 0.0}

    def labels(profile: Any, stops: set[int]) -> list[str]:
        return [processor.label for processor in profile.logits_processors(tokenizer, stops)]

    assert labels(Regime3Profile(Regime3()), {0}) == ["after <<ANS_END>>", "grammar"]
    assert labels(Regime3Profile(Regime3()), set()) == ["grammar"]
    assert labels(Regime3Profile(Regime3(answers="text")), {0}) == ["after <<ANS_END>>"]
    assert labels(Regime3Profile(Regime3(enforce=False, text_bias={"x": 1.0}, **idle)), {0}) == ["reward on 'x'"]
    everything = ["penalty on '<think>'", "penalty on '</think>'", "after the stop emojis"]
    assert labels(EmojiThinkProfile(EmojiThink(), 1), {0}) == everything
    assert labels(EmojiThinkProfile(EmojiThink(**idle), 1), {0}) == everything[:2]
