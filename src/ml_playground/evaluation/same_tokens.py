"""Whether the ids of two tokenizers mean the same: a tokenizer and its exported copy are other files, and have other fingerprints."""

from collections.abc import Iterable, Sequence

from ml_playground.core.tokenizer_protocol import Tokenizer


def mean_the_same(one: Tokenizer, other: Tokenizer, rows: Iterable[Sequence[int]]) -> bool:
    """Compare every id, and how both cut the text of these rows.

    Args:
        one: That made the rows.
        other: Another one.
        rows: Ids of prepared text.
    """
    if one.fingerprint == other.fingerprint:
        return True
    if one.vocab_size != other.vocab_size or one.specials.eos != other.specials.eos:
        return False
    if list(one.token_bytes()) != list(other.token_bytes()):
        return False
    # Halves of characters look alike, each U+FFFD; the rows tell those apart that the text has.
    if any(one.decode([index]) != other.decode([index]) for index in range(one.vocab_size)):
        return False
    return all(one.encode(text) == other.encode(text) for text in map(one.decode, rows))
