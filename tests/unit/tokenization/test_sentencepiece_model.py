"""`sentencepiece_model`: what is trained, what is given, and files that are no model."""

import io
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.tokenization.loading import load_tokenizer
from ml_playground.tokenization.sentencepiece_model import SentencepieceTokenizer
from ml_playground.tokenization.sentencepiece_rules import read_rules
from ml_playground.tokenization.settings import SentencepieceModel
from tests.fakes.tokenizer_files import SAMPLE


def model(**options: object) -> bytes:
    """A model that the library trains by itself, its settings as they come if not said otherwise."""
    written = io.BytesIO()
    defaults = {"vocab_size": 400, "hard_vocab_limit": False, "minloglevel": 2, "byte_fallback": True}
    SentencePieceTrainer.Train(
        sentence_iterator=iter(SAMPLE.splitlines()), model_writer=written, **(defaults | options)
    )
    return written.getvalue()


def given(folder: Path, content: bytes) -> SentencepieceTokenizer:
    """The tokenizer of a given model file."""
    (folder / "given.model").write_bytes(content)
    return SentencepieceTokenizer.train(["a"], SentencepieceModel(model=folder / "given.model"))


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_train_in_other_processes_gives_equal_fingerprints(algorithm: str) -> None:
    """Neither threads nor hash seeds nor the order of the text decide about pieces."""
    code = (
        "import sys;"
        "from ml_playground.tokenization.sentencepiece_model import SentencepieceTokenizer as T;"
        "from ml_playground.tokenization.settings import SentencepieceModel as S;"
        "from tests.fakes.tokenizer_files import SAMPLE;"
        f"lines = SAMPLE.splitlines(keepends=True)[::int(sys.argv[1])];print(T.train(lines, S(algorithm={algorithm!r})).fingerprint)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code, step], capture_output=True, text=True, check=True)
        for step in ("1", "-1")
    ]
    assert len({run.stdout for run in runs}) == 1


def test_trained_model_has_what_the_settings_ask_for() -> None:
    """Each setting has an effect."""
    many = SentencepieceTokenizer.train([SAMPLE], SentencepieceModel(vocab_size=400, algorithm="bpe"))
    few = SentencepieceTokenizer.train([SAMPLE], SentencepieceModel(vocab_size=350, algorithm="bpe"))
    plain = SentencepieceTokenizer.train(
        [SAMPLE], SentencepieceModel(vocab_size=150, byte_fallback=False, character_coverage=1.0)
    )
    covering_less = SentencepieceTokenizer.train(
        [SAMPLE], SentencepieceModel(vocab_size=150, byte_fallback=False, character_coverage=0.98)
    )
    assert (many.vocab_size, few.vocab_size) == (400, 350)
    assert plain.decode(plain.encode("你好½")) == "你好½"
    assert set(covering_less.decode(covering_less.encode("你好"))) == {"\ufffd"}
    assert many.fingerprint != SentencepieceTokenizer.train([SAMPLE], SentencepieceModel(vocab_size=400)).fingerprint


def test_line_breaks_and_tabs_are_pieces_of_their_own() -> None:
    """What a line begins with does not depend on the one before."""
    tokenizer = SentencepieceTokenizer.train([SAMPLE], SentencepieceModel())
    assert [tokenizer.decode([index]) for index in tokenizer.encode("x\n\ty")][-4:-1] == ["x", "\n", "\t"]


def test_long_text_of_another_script_is_cut_without_other_ids() -> None:
    """Equally likely pieces abound in letters that repeat, and over a long text the library's sums let another one win."""
    letters = random.Random(0)
    words = ["".join(letters.choice("абвгд") * letters.choice((1, 2, 3)) for _ in range(5)) for _ in range(3000)]
    tokenizer = SentencepieceTokenizer.train([" ".join(words)], SentencepieceModel(vocab_size=400))
    text = " ".join(words[:400])
    whole = tokenizer.encode(text)
    cuts = [tokenizer.safe_cut(text, start) or 0 for start in range(0, 2000, 100)]
    assert len(set(cuts)) == 20
    assert all(tokenizer.encode(text[:at]) + tokenizer.encode(text[at:]) == whole for at in cuts)


def test_vocabulary_too_small_says_how_large_it_must_be() -> None:
    """The library's own number, in the words of the settings."""
    message = r"vocab_size = 260 is less than the (\d+) ids that the characters of the training part, the bytes and the marks need"
    with pytest.raises(ConfigError, match=message) as caught:
        SentencepieceTokenizer.train([SAMPLE], SentencepieceModel(vocab_size=260))
    needed = int(str(caught.value).split("less than the ")[1].split()[0])
    assert SentencepieceTokenizer.train([SAMPLE], SentencepieceModel(vocab_size=needed)).vocab_size == needed


def test_text_of_what_the_library_leaves_out_cannot_be_learnt_from() -> None:
    """Its refusal is told with the setting."""
    with pytest.raises(ConfigError, match=r"SentencePiece cannot learn prepare\.tokenizer\.vocab_size = 8192 ids"):
        SentencepieceTokenizer.train(["\u2585\u2581\n"], SentencepieceModel())


def test_settings_of_training_beside_a_given_model_are_refused() -> None:
    """They would have no effect."""
    with pytest.raises(ValidationError, match=r"prepare\.tokenizer\.vocab_size would have no effect, for .*model"):
        SentencepieceModel(model=Path("x.model"), vocab_size=300)


@pytest.mark.parametrize("algorithm", ["unigram", "bpe", "char"])
def test_given_model_as_the_library_trains_it_gives_the_librarys_ids(algorithm: str, tmp_path: Path) -> None:
    """A blank before the text, one for several, marks for bos and eos: all as the model says."""
    content = model(model_type=algorithm)
    library = SentencePieceProcessor(model_proto=content)
    tokenizer = given(tmp_path, content)
    text = "Zwölf  Boxkämpfer jagen Viktor,  x+1 \u3042"
    assert tokenizer.encode(text) == library.Encode(text)
    assert tokenizer.safe_cut(text, 3) == 5
    assert tokenizer.decode(tokenizer.encode(text)) == " Zwölf Boxkämpfer jagen Viktor, x+1 \u3042"
    assert (tokenizer.specials.bos, tokenizer.specials.eos, tokenizer.specials.unknown) == (1, 2, 0)
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    "options",
    [
        {"split_by_whitespace": False, "model_type": "bpe", "vocab_size": 420},
        {"treat_whitespace_as_suffix": True},
        {"remove_extra_whitespaces": False},
        {"add_dummy_prefix": False},
    ],
)
def test_given_model_whose_ids_depend_on_what_stands_before_has_no_cut(
    options: dict[str, object], tmp_path: Path
) -> None:
    """Pieces over blanks, blanks behind words, blanks put or removed at the beginning: the text is encoded whole."""
    content = model(**options)
    tokenizer = given(tmp_path, content)
    text = "it's quer über den Deich. they'll be said's"
    assert tokenizer.safe_cut(text, 1) is None
    assert tokenizer.encode(text) == SentencePieceProcessor(model_proto=content).Encode(text)
    assert [ids.tolist() for ids in tokenizer.encode_arrays(["a b", "", "c"])] == [
        tokenizer.encode(one) for one in ("a b", "", "c")
    ]
    assert tokenizer.encode_arrays([]) == []


def test_given_file_that_is_missing_or_a_folder_names_the_key(tmp_path: Path) -> None:
    """The user learns which setting leads nowhere."""
    with pytest.raises(DataError, match=r"prepare\.tokenizer\.model = \S+nowhere does not exist"):
        SentencepieceTokenizer.train(["a"], SentencepieceModel(model=tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"prepare\.tokenizer\.model = \S+ cannot be read: Is a directory"):
        SentencepieceTokenizer.train(["a"], SentencepieceModel(model=tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has 0 pieces, not 1 to"),
        (b"no model at all", "it has a field of the unknown form|it is cut off"),
        (b"\x0a\x7f", "it is cut off"),
        (b"\x0a", "it is cut off"),
        (b"\xff" * 20, "it has a number without end"),
        (b"\x0a\x05\x0a\x01a\x18\x09", "a piece of no known type|not exactly one"),
        (b"\x0a\x03\x0a\x01a", "not exactly one that is unknown"),
        (b"\x0a\x05\x0a\x01a\x18\x02" * 2, "it has an empty piece, or one twice"),
        (b"\x0a\x02\x08\x01", "a piece of it has no text"),
        (b"\x0a\x03\x0a\x01\xff", "can't decode"),
        (b"\x0a\x05\x0a\x01a\x18\x02\x0a\x05\x0a\x01b\x18\x06", "pieces for some bytes only"),
    ],
)
def test_what_is_no_model_says_why(content: bytes, message: str, tmp_path: Path) -> None:
    """A file may hold anything; the library's own parser is not asked first."""
    with pytest.raises(DataError, match=rf"given\.model is no SentencePiece model: .*({message})"):
        given(tmp_path, content)


def test_damaged_models_are_refused_or_encode_within_their_vocabulary(tmp_path: Path) -> None:
    """No damage ends the process, and none gives ids that a model has no row for."""
    content = model()
    source = random.Random(7)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(source.randint(1, 8)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        damaged = damaged[: source.randrange(len(damaged))] if source.random() < 0.3 else damaged
        try:
            tokenizer = given(tmp_path, bytes(damaged))
        except DataError:
            continue
        assert all(0 <= index < tokenizer.vocab_size for index in tokenizer.encode(SAMPLE[:300]))


def test_rules_of_a_model_are_what_the_library_says() -> None:
    """Pieces, types and bytes, read without it."""
    content = model()
    library = SentencePieceProcessor(model_proto=content)
    rules = read_rules(content)
    assert list(rules.pieces) == [library.IdToPiece(index) for index in range(len(library))]
    assert sorted(rules.byte_ids().values()) == [index for index in range(len(library)) if library.IsByte(index)]
    assert rules.byte_ids()[65] == library.PieceToId("<0x41>")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"files": {"other": "0"}}, r"other cannot be read"),
        ({"files": {}}, r"its file is not sentencepiece\.model"),
        ({"files": None}, r"'files' does not name files"),
    ],
)
def test_load_of_damaged_content_says_what_is_wrong(content: dict[str, object], message: str, tmp_path: Path) -> None:
    """No damage is read as a tokenizer."""
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"schema_version": 1, "kind": "sentencepiece_model", **content})
    )
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)
