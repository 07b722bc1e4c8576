"""docs/tokenizers.md: every configuration on it prepares a text, and it names every kind and setting."""

import re
from pathlib import Path

import pytest

from ml_playground.configuration.families import TOKENIZERS
from ml_playground.configuration.loading import load
from ml_playground.core.deps import Deps
from ml_playground.core.registry import load_object
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.tokenization.loading import load_tokenizer
from ml_playground.tokenization.sentencepiece_model import SentencepieceTokenizer
from ml_playground.tokenization.settings import SentencepieceModel
from tests.fakes.tokenizer_files import SAMPLE, write_folder, write_ranks

PAGE = (Path(__file__).parents[3] / "docs" / "tokenizers.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.usefixtures("home")
def test_example_of_the_page_prepares_a_text(example: str, tmp_path: Path) -> None:
    """What is shown works as it stands, beside the files that it names."""
    write_ranks(tmp_path / "cl100k_base.tiktoken")
    write_folder(tmp_path / "folder")
    SentencepieceTokenizer.train([SAMPLE], SentencepieceModel()).save(tmp_path)
    (tmp_path / "text.txt").write_text(SAMPLE, encoding="utf-8")
    source = '[prepare]\nsource = {kind = "text_file", path = "text.txt"}\nsplit_by = "position"\n'
    (tmp_path / "example.toml").write_text(source + example.replace("[prepare]\n", ""), encoding="utf-8")
    prepared = prepare(load("python_stdlib", files=[tmp_path / "example.toml"]).job.prepare, Deps())
    tokenizer = load_tokenizer(prepared.folder / "tokenizer")
    assert tokenizer.decode(tokenizer.encode(" the end")) == " the end"


def test_page_shows_every_kind_and_names_every_setting() -> None:
    """A kind that is not shown is not found."""
    shown = {match for example in EXAMPLES for match in re.findall(r'kind = "(\w+)"', example)}
    assert shown == set(TOKENIZERS)
    for row in TOKENIZERS.values():
        assert all(
            re.search(rf"\b{name}\b", PAGE)
            for name in load_object(row.settings).model_fields
            if name != "min_frequency"
        )
