"""What the parts of a Hugging Face `tokenizer.json` say: where a text may be cut, and what each id stands for.

Only what is known to hold is said. A text may be cut before a blank behind a visible character if normalising leaves that
blank where it is, and if either the first step of splitting always ends a piece there, or the model has no piece that
reaches over it. Every other tokenizer has no safe cut.

Source: https://github.com/huggingface/tokenizers, tokenizers/src
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ml_playground.tokenization.ascii_words import CUT
from ml_playground.tokenization.blank_cuts import BLANK_CUT
from ml_playground.tokenization.byte_letters import BYTE_OF_LETTER

Part = Mapping[str, Any]
ToBytes = Callable[[str], bytes | None]

BLANK_LETTER = "\N{LOWER ONE EIGHTH BLOCK}"

# Work on characters, or on a character and the marks behind it, and keep a blank that follows something visible.
_LOCAL_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "Nmt", "ByteLevel"}
_BLANK_RUNS = {"String": " ", "Regex": " {2,}"}

# Split at every white space, whatever they do else.
_SPLIT_AT_WHITE_SPACE = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}

# Every alternative begins anew at a blank behind a visible character, as of GPT-2, cl100k, Llama 3, Qwen 2, o200k and
# GPT-2 as Llama-like models write it.
_PATTERNS = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}

_LIKE_A_BLANK = re.compile(rf"[^\S\n\r]|{BLANK_LETTER}")
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def cut_of(spec: Part) -> re.Pattern[str] | None:
    """Where a text may be cut; none: nowhere."""
    normalizer, pre_tokenizer = _parts_before_the_model(spec)
    if not all(map(_keeps_blanks, normalizer)):
        return None
    cut = _cut_of_splitting(pre_tokenizer)
    if cut is None and not any(map(_splits, pre_tokenizer)) and _pieces_stop_at_blanks(spec.get("model") or {}):
        cut = BLANK_CUT
    if cut is None or any(_reaches_over(token, cut) for token in _parts(spec, "added_tokens")):
        return None
    return cut


def ends_the_library(spec: Part) -> bool:
    """Whether the library would not refuse these rules but end the process: it cuts the prefix off the right part of each
    merge without looking whether it is there, in the middle of a character if need be.
    """
    model: Any = spec.get("model")
    prefix: Any = cast(Part, model).get("continuing_subword_prefix") if isinstance(model, dict) else None
    if not isinstance(prefix, str) or not prefix:
        return False
    merges: Any = cast(Part, model).get("merges") or []
    rights = [merge.rpartition(" ")[2] if isinstance(merge, str) else merge[-1] for merge in merges if merge]
    return any(not str(right).startswith(prefix) for right in rights)


def _parts_before_the_model(spec: Part) -> tuple[Sequence[Part], Sequence[Part]]:
    """The steps of normalising and those of splitting, without such as have nothing to do."""
    normalizer = steps(spec.get("normalizer"), "normalizers")
    pre_tokenizer = steps(spec.get("pre_tokenizer"), "pretokenizers")
    if any(part.get("type") == "Replace" and part.get("pattern") == {"String": " "} for part in normalizer):
        # No blank is left to split at, as in Gemma's.
        at_blanks = {"String": " "}
        pre_tokenizer = [part for part in pre_tokenizer if part.get("pattern") != at_blanks]
    return normalizer, pre_tokenizer


def steps(part: Part | None, several: str) -> Sequence[Part]:
    """The steps of a part that may be a sequence of them, sequences in sequences among it."""
    if not part:
        return []
    if part.get("type") != "Sequence":
        return [part]
    return [step for inner in _parts(part, several) for step in steps(inner, several)]


def _parts(part: Part, key: str) -> Sequence[Part]:
    """The list of parts under a key; empty where there is none."""
    return cast(Sequence[Part], part.get(key) or [])


def _keeps_blanks(normalizer: Part) -> bool:
    kind = str(normalizer.get("type"))
    if kind == "Replace":
        pattern: Any = normalizer.get("pattern") or {}
        known = any(pattern == {form: text} for form, text in _BLANK_RUNS.items())
        return known and normalizer.get("content") in (" ", BLANK_LETTER)
    if kind == "Strip":
        return normalizer.get("strip_left") is False
    # ByteLevel writes blanks as another letter, which splitting then does not see.
    return kind in _LOCAL_NORMALIZERS and kind != "ByteLevel"


def _cut_of_splitting(pre_tokenizer: Sequence[Part]) -> re.Pattern[str] | None:
    """Where the first step always ends a piece; later ones split its pieces further."""
    if not pre_tokenizer:
        return None
    first = pre_tokenizer[0]
    kind = str(first.get("type"))
    if kind in _SPLIT_AT_WHITE_SPACE:
        return CUT
    if kind == "ByteLevel" and first.get("use_regex", True):
        # A blank put before the text is put before a part, too, unless that begins with one.
        return BLANK_CUT if first.get("add_prefix_space") else CUT
    if kind == "Metaspace" and first.get("split", True) and first.get("replacement") == BLANK_LETTER:
        return BLANK_CUT
    known = kind == "Split" and (first.get("pattern") or {}).get("Regex") in _PATTERNS
    # Inverted, the pattern names what lies between pieces; removed, they would be lost.
    return BLANK_CUT if known and first.get("behavior") == "Isolated" and not first.get("invert") else None


def _splits(pre_tokenizer: Part) -> bool:
    kind = pre_tokenizer.get("type")
    if kind == "Metaspace":
        return pre_tokenizer.get("split", True) is not False
    return not (kind == "ByteLevel" and pre_tokenizer.get("use_regex") is False)


def _pieces_stop_at_blanks(model: Part) -> bool:
    """Whether byte pairs over a whole text never meet across a blank that follows something else.

    Likely pieces (Unigram) do not either, but their sums over a text are rounded: of equally likely pieces now these win,
    now those.
    """
    if model.get("type") != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return False
    vocabulary: Mapping[str, int] = model.get("vocab") or {}
    # A blank without an id could melt into an unknown piece with what stands before it.
    if BLANK_LETTER not in vocabulary:
        return False
    return not any(re.search(rf"[^{BLANK_LETTER}]{BLANK_LETTER}", token) for token in vocabulary)


def _reaches_over(token: Part, cut: re.Pattern[str]) -> bool:
    """Whether a token that is found in texts may hold a cut, or looks at what stands beside it."""
    # Normalising may make blanks of other ones, and a token of both is found in what came of the text.
    content = _LIKE_A_BLANK.sub(" ", str(token.get("content", "")))
    if token.get("special"):
        return False
    return bool(token.get("rstrip") or token.get("single_word") or cut.search(content, 1))


def pieces_of(spec: Part) -> list[bytes] | None:
    """The bytes that each id stands for, (V,), nothing for special tokens; None where ids say no bytes by themselves."""
    model: Part = spec.get("model") or {}
    vocabulary = vocabulary_of(model)
    added = _parts(spec, "added_tokens")
    to_bytes = _reader(spec)
    if to_bytes is None:
        return None
    size = max([*vocabulary.values(), *(int(token["id"]) for token in added)], default=-1) + 1
    found = [b""] * size
    for token, index in vocabulary.items():
        piece = to_bytes(token)
        if piece is None:
            return None
        found[index] = piece
    unknown = unknown_of(spec)
    if unknown is not None:
        found[unknown] = b""
    for token in added:
        found[int(token["id"])] = b"" if token.get("special") else str(token["content"]).encode()
    return found


def vocabulary_of(model: Part) -> dict[str, int]:
    """Tokens with their ids."""
    vocabulary: Any = model.get("vocab") or {}
    if isinstance(vocabulary, list):
        # Unigram lists tokens with scores.
        return {str(entry[0]): index for index, entry in enumerate(cast(Sequence[Sequence[Any]], vocabulary))}
    return dict(cast(Mapping[str, int], vocabulary))


def unknown_of(spec: Part) -> int | None:
    """The id that the model gives to what it does not know; none if it knows every byte."""
    model: Part = spec.get("model") or {}
    vocabulary = vocabulary_of(model)
    if _is_byte_level(spec) and vocabulary.keys() >= BYTE_OF_LETTER.keys():
        return None
    if model.get("byte_fallback") and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)):
        return None
    if model.get("type") == "Unigram":
        return model.get("unk_id")
    return vocabulary.get(model.get("unk_token") or "")


def _is_byte_level(spec: Part) -> bool:
    parts = [
        *steps(spec.get("pre_tokenizer"), "pretokenizers"),
        *steps(spec.get("normalizer"), "normalizers"),
    ]
    return any(part.get("type") == "ByteLevel" for part in parts)


def _reader(spec: Part) -> ToBytes | None:
    """What turns a token into its bytes, or into None where it has none; None where ids say no bytes by themselves."""
    if _is_byte_level(spec):
        # What was added is written as it is, not in letters for bytes.
        added = {str(token.get("content")) for token in _parts(spec, "added_tokens")}

        def from_letters(token: str) -> bytes | None:
            return b"" if token in added else _letters_to_bytes(token)

        return from_letters
    decoders = {str(part.get("type")) for part in steps(spec.get("decoder"), "decoders")}
    blanks = [*steps(spec.get("normalizer"), "normalizers"), *steps(spec.get("pre_tokenizer"), "pretokenizers")]
    if not decoders & {"Metaspace", "Replace"} or all(
        part.get("type") not in ("Replace", "Metaspace") for part in blanks
    ):
        return None
    model: Part = spec.get("model") or {}
    falls_back = bool(model.get("byte_fallback"))

    def from_blanks(token: str) -> bytes:
        return _blanks_to_bytes(token, falls_back=falls_back)

    return from_blanks


def _letters_to_bytes(token: str) -> bytes | None:
    return bytes(BYTE_OF_LETTER[letter] for letter in token) if BYTE_OF_LETTER.keys() >= set(token) else None


def _blanks_to_bytes(token: str, *, falls_back: bool) -> bytes:
    byte = _BYTE_PIECE.fullmatch(token) if falls_back else None
    return bytes.fromhex(byte[1]) if byte else token.replace(BLANK_LETTER, " ").encode()
