"""SentencePiece models from counted words: memory grows with the different words alone, whatever the size of the text."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from sentencepiece import SentencePieceTrainer

from ml_playground.core.error_handling import ConfigError
from ml_playground.tokenization.ascii_words import SEPARATOR, Words, joined, words_at
from ml_playground.tokenization.sentencepiece_rules import BLANK_LETTER
from ml_playground.tokenization.settings import SentencepieceModel

# Between them and their neighbours no piece is learnt: the library's training reads lines of fields, and a line of text
# should not depend on the one before.
OWN_PIECES = "\n", "\t"
# The library leaves out what holds these: its mark of unknown characters, and what its model files cannot hold.
RESERVED = "\u2585", "\0", BLANK_LETTER
# Sums of floats depend on how the words are shared out, so that the number of threads may not be the machine's.
THREADS = 4
# The library leaves out longer words; pieces have at most 16 characters.
LONGEST_CHARACTERS = 1000
BLANK, LINE_BREAK, TAB = ord(" "), ord("\n"), ord("\t")


def split_stretches(texts: Sequence[str]) -> Words:
    """Blanks with what follows them; line breaks and tabs alone. The library learns no piece that reaches further.

    Raises:
        UnicodeEncodeError: A text holds half a surrogate pair.
    """
    raw = joined(texts)
    here = np.frombuffer(raw, dtype=np.uint8)
    before = np.append(np.uint8(SEPARATOR), here)[:-1]
    begins = (here == BLANK) & (before != BLANK)
    for alone in (LINE_BREAK, TAB, SEPARATOR):
        begins |= (here == alone) | (before == alone)
    return words_at(raw, np.flatnonzero(begins))


def train_model(counts: Mapping[bytes, int], settings: SentencepieceModel) -> bytes:
    """A model file; the same for the same words and settings, on every machine.

    Raises:
        ConfigError: The vocabulary is too small for the characters of the text, or the text too short to learn from.
    """
    written = io.BytesIO()
    try:
        SentencePieceTrainer.Train(
            sentence_iterator=_lines(counts),
            model_writer=written,
            input_format="tsv",
            model_type=settings.algorithm,
            vocab_size=settings.vocab_size,
            hard_vocab_limit=False,
            character_coverage=settings.character_coverage,
            byte_fallback=settings.byte_fallback,
            # The text comes back as it was: nothing is normalised, added or removed.
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            user_defined_symbols=list(OWN_PIECES),
            max_sentence_length=8 * LONGEST_CHARACTERS,
            unk_id=0,
            bos_id=-1,
            eos_id=1,
            pad_id=-1,
            num_threads=THREADS,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        raise _refused(settings, " ".join(str(error).split())) from error
    return written.getvalue()


def _refused(settings: SentencepieceModel, why: str) -> ConfigError:
    """What the library's refusal means for the settings."""
    if needed := re.search(r"smaller than required_chars\. \d+ vs (\d+)", why):
        return ConfigError(
            f"prepare.tokenizer.vocab_size = {settings.vocab_size} is less than the {needed[1]} ids that the characters of "
            f"the training part{', the bytes' if settings.byte_fallback else ''} and the marks need; "
            f"set it to at least {needed[1]}, or lower prepare.tokenizer.character_coverage."
        )
    return ConfigError(
        f"SentencePiece cannot learn prepare.tokenizer.vocab_size = {settings.vocab_size} ids from the training part: {why}"
    )


def _lines(counts: Mapping[bytes, int]) -> Iterator[str]:
    """Word and count, in an order that does not depend on that of the text."""
    for word in sorted(counts):
        text = word.decode()
        for reserved in RESERVED:
            text = text.replace(reserved, "")
        if text.strip("\r") and text not in OWN_PIECES:
            for first in range(0, len(text), LONGEST_CHARACTERS):
                yield f"{text[first : first + LONGEST_CHARACTERS]}\t{counts[word]}"
