"""Texts as they are drawn: where they end, and what each piece says."""

from collections.abc import Sequence

import pytest

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.seeding import seed_for
from ml_playground.core.stream_decoder import StreamDecoder
from ml_playground.sampling.generate import generate
from ml_playground.sampling.texts import Piece, Steering, StopTexts, TextWriter, draw_texts, stop_ids
from ml_playground.tokenization.byte import END_OF_TEXT, ByteTokenizer
from ml_playground.tokenization.char import CharTokenizer
from tests.fakes.forbids_last import ForbidsLast
from tests.fakes.history_model import HistoryModel

LETTERS = CharTokenizer("abcdefgh")
GREEDY = SampleSettings(temperature=0.0, max_new_tokens=8, num_samples=1)


def drawn(settings: SampleSettings, model: HistoryModel | None = None) -> list[Piece]:
    """Pieces of one prompt."""
    model = model or HistoryModel(9, 32, seed=4)
    return list(draw_texts(model.eval(), LETTERS, [[1]], settings))


def test_draw_texts_without_stops_ends_at_the_length() -> None:
    """The last piece says why it is the last."""
    pieces = drawn(GREEDY)
    assert [piece.end for piece in pieces[:-1]] == [None] * 8
    assert pieces[-1] == Piece(0, 0, "", 8, "length")


@pytest.mark.parametrize("beams", [1, 2])
def test_draw_texts_last_piece_says_what_processors_did(beams: int) -> None:
    """For each text, of its own tokens, whether drawn or searched."""
    steering = Steering({0}, [ForbidsLast(), ForbidsLast()])
    settings = GREEDY.model_copy(update={"num_beams": beams})
    pieces = list(draw_texts(HistoryModel(9, 32).eval(), LETTERS, [[1]], settings, steering=steering))
    assert [piece.statistics for piece in pieces if piece.end is None] == [()] * (len(pieces) - 1)
    expected = {"label": "no id twice", "hits": max(0, pieces[-1].tokens - 1)}
    assert pieces[-1].statistics == (expected, expected)


def test_draw_texts_stop_text_over_two_tokens_is_not_shown() -> None:
    """The text ends before the stop, and no part of it was given out on the way."""
    whole = "".join(piece.text for piece in drawn(GREEDY))
    stop = whole[3:5]
    pieces = drawn(GREEDY.model_copy(update={"stop": (stop,)}))
    assert "".join(piece.text for piece in pieces) == whole[: whole.index(stop)]
    assert pieces[-1].end == "stop"


def test_draw_texts_stop_text_begun_but_not_completed_is_shown_at_the_end() -> None:
    """What was held back in case it became a stop is text after all."""
    whole = "".join(piece.text for piece in drawn(GREEDY))
    pieces = drawn(GREEDY.model_copy(update={"stop": (whole[-1] + "never",)}))
    assert "".join(piece.text for piece in pieces) == whole
    assert pieces[-1].text.endswith(whole[-1])
    assert pieces[-1].end == "length"


class WritesBytes(HistoryModel):
    """Draws given ids one after the other, whatever the prompt."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__(257, 32)
        self.ids = list(ids)

    def step(self, ids: object, state: object) -> object:
        """Logits that leave one choice."""
        logits = self.embedding.new_full((1, 257), -100.0)
        logits[0, self.ids[self.forwards]] = 100.0
        self.forwards += 1
        return logits


def test_draw_texts_end_of_text_ends_and_is_no_text() -> None:
    """The mark of an end is obeyed and not shown; it does not count as a token of the text."""
    model = WritesBytes([*b"hi", END_OF_TEXT, *b"never"]).eval()
    pieces = list(draw_texts(model, ByteTokenizer(), [[0]], GREEDY))
    assert pieces == [Piece(0, 0, "h", 1), Piece(0, 0, "i", 2), Piece(0, 0, "", 2, "stop")]


def test_draw_texts_character_cut_by_the_length_is_shown_as_undecodable() -> None:
    """Bytes of a character that never became whole are not lost in silence."""
    model = WritesBytes("a€".encode()[:3]).eval()
    pieces = list(draw_texts(model, ByteTokenizer(), [[0]], GREEDY.model_copy(update={"max_new_tokens": 3})))
    assert [piece.text for piece in pieces] == ["a", "\ufffd"]


def test_draw_texts_seed_is_that_of_prompt_and_sample() -> None:
    """The seed's name is part of the contract: the same text can be drawn by other means."""
    settings = SampleSettings(max_new_tokens=6, num_samples=2, seed=7)
    model = HistoryModel(9, 32).eval()
    expected = [tokens[0].id for tokens in generate(model, [[2]], settings, seeds=[seed_for(7, "sample", 1, 1)])]
    pieces = draw_texts(model, LETTERS, [[1], [2]], settings)
    assert "".join(piece.text for piece in pieces if (piece.prompt, piece.sample) == (1, 1)) == LETTERS.decode(expected)


def test_stop_ids_tokenizer_without_an_end_has_none() -> None:
    """Characters have no mark of an end."""
    assert stop_ids(LETTERS) == frozenset()
    assert stop_ids(ByteTokenizer()) == {END_OF_TEXT}


def test_stop_texts_after_the_stop_gives_nothing() -> None:
    """What comes later in the same or in another piece is dropped."""
    stream = StopTexts(["."])
    assert [stream.add("ab.cd"), stream.add("ef"), stream.finish()] == ["ab", "", ""]


def test_text_writer_after_stop_finishes_empty() -> None:
    """A stopped writer holds nothing back."""
    writer = TextWriter(ByteTokenizer().decode, ["b"])
    assert [writer.add(index) for index in b"ab"] == ["a", ""]
    assert writer.stopped
    assert writer.finish() == ""


def test_stream_decoder_decoder_that_trims_the_first_blank_keeps_blanks_between() -> None:
    """Tokenizers that drop the blank before the first word of a text lose none in the middle of a stream."""
    words = ["", " to", " be", " or"]
    decoder = StreamDecoder(lambda ids: "".join(words[index] for index in ids).removeprefix(" "))
    assert [decoder.add(index) for index in (1, 2, 3)] == ["to", " be", " or"]
