"""`tiktoken_bpe`: published ranks and others, what is missing, what is no file of ranks."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import tiktoken_ext.openai_public as published

from ml_playground.core.error_handling import DataError
from ml_playground.tokenization.loading import load_tokenizer
from ml_playground.tokenization.rank_files import (
    CL100K_PATTERN,
    ENCODINGS,
    GPT2_PATTERN,
    cached_file,
    parse_ranks,
)
from ml_playground.tokenization.settings import TiktokenBpe
from ml_playground.tokenization.tiktoken_bpe import TiktokenBpeTokenizer
from tests.fakes.tokenizer_files import rank_lines, small_ranks, write_ranks

SOURCE = Path(published.__file__).read_text(encoding="utf-8")


def test_published_encodings_are_the_librarys() -> None:
    """Hashes, patterns and ids of special tokens stand in its source, letter by letter."""
    assert published.r50k_pat_str == GPT2_PATTERN
    assert f'r"""{CL100K_PATTERN}"""' in SOURCE
    assert all(f'r"""{part}"""' in SOURCE for part in ENCODINGS["o200k_base"].pattern.split("|[^")[:1])
    for encoding in ENCODINGS.values():
        assert f'/{encoding.file}.tiktoken",\n        expected_hash="{encoding.sha256}"' in SOURCE
        assert all(f": {index}" in SOURCE for index in encoding.specials.values())


def test_cached_file_is_where_the_library_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by the hash of the address, below the folder of the environment."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    address = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    assert cached_file(ENCODINGS["cl100k_base"]) == tmp_path / hashlib.sha1(address.encode()).hexdigest()


def test_ranks_that_are_not_here_say_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched: the message names the file, its place and the key."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    message = (
        rf"encoding = 'gpt2' are not on this machine \({tmp_path}/\w+ is missing\), and nothing is fetched\. "
        r"Get https\S+/r50k_base\.tiktoken .* name it in prepare\.tokenizer\.ranks"
    )
    with pytest.raises(DataError, match=message):
        TiktokenBpeTokenizer.train(["a"], TiktokenBpe())
    with pytest.raises(DataError, match=message):
        TiktokenBpeTokenizer.named_files(TiktokenBpe())


def test_cache_with_other_ranks_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write into the folder for temporary files decides nothing."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    write_ranks(cached_file(ENCODINGS["gpt2"]))
    with pytest.raises(DataError, match=r"in tiktoken's cache is not the published file of 'gpt2'; remove it"):
        TiktokenBpeTokenizer.train(["a"], TiktokenBpe())


@pytest.mark.parametrize("settings", [{"ranks": "nowhere"}, {"ranks": "."}])
def test_ranks_that_cannot_be_read_name_the_key(settings: Mapping[str, str], tmp_path: Path) -> None:
    """A path that leads nowhere, or to a folder."""
    with pytest.raises(DataError, match=r"ranks = \S+nowhere does not exist|cannot be read as a file of ranks"):
        TiktokenBpeTokenizer.train(["a"], TiktokenBpe(ranks=tmp_path / settings["ranks"]))


def test_ids_without_meaning_count_no_bytes_and_decode_to_nothing(tmp_path: Path) -> None:
    """Ranks may have gaps, and special tokens lie behind them."""
    ranks = small_ranks(gap=True)
    (tmp_path / "ranks").write_bytes(rank_lines(ranks))
    tokenizer = TiktokenBpeTokenizer.train(["a"], TiktokenBpe(encoding="cl100k_base", ranks=tmp_path / "ranks"))
    last = max(ranks.values())
    assert tokenizer.vocab_size == last + 1 + len(ENCODINGS["cl100k_base"].specials)
    assert tokenizer.specials.eos == last + 1
    assert {tokenizer.token_bytes()[index] for index in (300, last + 1, tokenizer.vocab_size - 1)} == {0}
    assert tokenizer.decode([300, last + 1, *tokenizer.encode("it's")]) == "it's"


def test_special_tokens_in_a_text_stay_text(tmp_path: Path) -> None:
    """Whoever writes a text does not decide where it ends."""
    tokenizer = TiktokenBpeTokenizer.train(["a"], TiktokenBpe(ranks=write_ranks(tmp_path / "ranks")))
    ids = tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.specials.eos not in ids
    assert tokenizer.decode(ids) == "a<|endoftext|>b"


@pytest.mark.parametrize("text", [" " * 300_000, "a" * 300_000, "!\n" * 100_000, "\n" * 300_000])
def test_endless_words_are_encoded_too(text: str, tmp_path: Path) -> None:
    """Neither the pattern nor the merging gives up on what no person writes."""
    tokenizer = TiktokenBpeTokenizer.train(
        ["a"], TiktokenBpe(encoding="cl100k_base", ranks=write_ranks(tmp_path / "ranks"))
    )
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_more_than_the_pattern_can_read_says_so(tmp_path: Path) -> None:
    """The library would end the program."""
    tokenizer = TiktokenBpeTokenizer.train(
        ["a"], TiktokenBpe(encoding="o200k_base", ranks=write_ranks(tmp_path / "ranks"))
    )
    most = "a" * 400_000
    assert tokenizer.decode(tokenizer.encode(most)) == most
    with pytest.raises(DataError, match=r"The text has 1,000,000 characters without a blank .* at most 400,000"):
        tokenizer.encode("a" * 1_000_000)


GOOD = rank_lines(small_ranks())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a b c\n", r"line 1 is b'a b c', not '<base64> <rank>'"),
        (GOOD + b"\nYQ== x\n", r"line 366 is b'YQ== x'"),
        (GOOD + b"Y!== 7\n", r"line 365 is"),
        (GOOD + b"YQ== 900\n", r"a token or a rank occurs twice"),
        (GOOD + b"cXF4 7\n", r"a token or a rank occurs twice"),
        (b"", r"whole file of ranks: some of the 256 bytes have none"),
        (GOOD + b"cXF4 -7\n", r"a rank outside of 0 to 9,999,999"),
        (GOOD + b"cXF4 99999999999\n", r"a rank outside of 0 to 9,999,999"),
    ],
)
def test_what_is_no_file_of_ranks_says_why(content: bytes, message: str) -> None:
    """A file may hold anything."""
    with pytest.raises(DataError, match=f"^here is no .*{message}"):
        parse_ranks(content, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoding": "gpt5"}, r"'gpt5' is no encoding \(known: gpt2"),
        ({"special_tokens": []}, "'special_tokens' is not a table of ids with <|endoftext|>"),
        ({"special_tokens": {"<|endoftext|>": -1}}, "'special_tokens' are not different ids"),
        ({"special_tokens": {"<|endoftext|>": 7}}, "a special token has the id of text"),
        ({"files": {}}, "its file is not ranks.tiktoken"),
        ({"files": []}, "'files' does not name files with their hashes"),
        ({"files": {"../ranks.tiktoken": ""}}, "is no name of a file within the folder"),
        ({"files": {"other": ""}}, r"other cannot be read \(No such file"),
        ({"files": {"ranks.tiktoken": "0"}}, "ranks.tiktoken is not the file that belongs to it"),
    ],
)
def test_load_of_damaged_content_says_what_is_wrong(change: dict[str, object], message: str, tmp_path: Path) -> None:
    """No damage is read as a tokenizer."""
    TiktokenBpeTokenizer.train(["a"], TiktokenBpe(ranks=write_ranks(tmp_path / "ranks"))).save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | change))
    with pytest.raises(DataError, match=message.replace("|", r"\|")):
        load_tokenizer(tmp_path)
