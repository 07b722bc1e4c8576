"""Laws of the text that is given out while it is drawn: nothing is ever taken back, however it is cut into pieces."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.stream_decoder import StreamDecoder
from ml_playground.sampling.texts import StopTexts, TextWriter, draw_texts
from ml_playground.tokenization.byte import ByteTokenizer
from tests.fakes.history_model import HistoryModel

ALPHABET = "abc"
stops = st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=3)
pieces = st.lists(st.text(ALPHABET, max_size=4), max_size=8)


def first_completed(text: str, wanted: Sequence[str]) -> int:
    """Where a reader of single characters would cut: before the stop text that is whole first, the longest of those."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in wanted if text[:end].endswith(stop)]
        if starts:
            return min(starts)
    return len(text)


@given(pieces, stops)
def test_stop_texts_any_pieces_equals_cutting_the_whole_text(parts: list[str], wanted: list[str]) -> None:
    """What is given out is the text up to the stop that is completed first, whatever the pieces were."""
    stream = StopTexts(wanted)
    shown = "".join(stream.add(part) for part in parts)
    shown += stream.finish()
    text = "".join(parts)
    assert shown == text[: first_completed(text, wanted)]
    assert stream.found == (first_completed(text, wanted) < len(text) or any(text.endswith(stop) for stop in wanted))


@given(pieces, stops)
def test_stop_texts_any_moment_holds_back_no_more_than_a_stop_may_need(parts: list[str], wanted: list[str]) -> None:
    """Text appears as soon as it is certain: what is held back is the beginning of a stop."""
    stream = StopTexts(wanted)
    given_out, seen = "", ""
    for part in parts:
        given_out += stream.add(part)
        seen += part
        held = seen[len(given_out) :]
        assert stream.found or held == "" or any(stop.startswith(held) for stop in wanted)


@given(st.lists(st.one_of(st.integers(0, 255), st.sampled_from([0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98, 0x80, 0x41]))))
def test_stream_decoder_any_bytes_equals_decoding_all_at_once(ids: list[int]) -> None:
    """Bytes that split characters, and bytes that are none, give the text that decoding them together gives."""
    decoder = StreamDecoder(ByteTokenizer().decode)
    assert "".join(decoder.add(index) for index in ids) + decoder.finish() == ByteTokenizer().decode(ids)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=20))
def test_stream_decoder_bytes_of_a_text_never_show_part_of_a_character(text: str) -> None:
    """At each moment what was shown is a beginning of the text, and at the last byte it is the whole."""
    decoder = StreamDecoder(ByteTokenizer().decode)
    shown = ""
    for index in text.encode():
        shown += decoder.add(index)
        assert text.startswith(shown)
    assert shown == text


@given(st.text("añ€😀", max_size=8))
def test_text_writer_characters_of_many_bytes_come_whole(text: str) -> None:
    """Each piece that is given out is made of whole characters."""
    writer = TextWriter(ByteTokenizer().decode, ["\n"])
    shown = [writer.add(index) for index in text.encode()]
    assert [piece for piece in shown if piece] == list(text)
    assert writer.tokens == len(text.encode())


@given(
    st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=5), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_draw_texts_in_smaller_batches_gives_the_same_texts(
    prompts: list[list[int]], samples: int, rows_at_once: int
) -> None:
    """Sample i of prompt j does not depend on what is drawn beside it, nor on how many."""
    model = HistoryModel(257, 6).eval()

    def texts(how_many: int, at_once: int) -> dict[tuple[int, int], str]:
        settings = SampleSettings(num_samples=how_many, max_new_tokens=5, temperature=1.5)
        found: dict[tuple[int, int], str] = {}
        for piece in draw_texts(model, ByteTokenizer(), prompts, settings, rows_at_once=at_once):
            found[piece.prompt, piece.sample] = found.get((piece.prompt, piece.sample), "") + piece.text
        return found

    more = texts(samples + 1, 16)
    assert texts(samples, rows_at_once) == {key: text for key, text in more.items() if key[1] < samples}
