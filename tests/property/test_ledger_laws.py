"""The ledger balances for whatever is prepared, and says so when it does not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.ledger import imbalances
from ml_playground.data_pipeline.preparer import prepare
from tests.fakes.prepared_text import text_settings, write_texts

names = st.text(alphabet="abcdefgh", min_size=1, max_size=4)
bodies = st.text(alphabet="ab c\né你\U0001f40e", max_size=30)


@given(
    files=st.dictionaries(names, bodies, min_size=3, max_size=8),
    tokenizer=st.sampled_from(["char", "byte"]),
    split_by=st.sampled_from(["position", "document"]),
    fractions=st.sampled_from([(0.1, 0.0), (0.3, 0.2), (0.5, 0.0)]),
)
@settings(max_examples=25)
def test_ledger_of_any_files_balances(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, str],
    tokenizer: str,
    split_by: str,
    fractions: tuple[float, float],
) -> None:
    """Each file, character, byte and end of document is found again exactly once."""
    base = tmp_path_factory.mktemp("ledger")
    contents = {f"{name}.txt": body for name, body in files.items()} | {f"z{n}.txt": "some text" for n in range(3)}
    folder = write_texts(base, contents)
    val, test = fractions
    made = prepare(
        text_settings(folder, tokenizer=tokenizer, split_by=split_by, val_fraction=val, test_fraction=test),
        Deps(),
    )
    ledger = made.manifest.ledger
    assert imbalances(ledger) == []
    assert ledger.characters == sum(map(len, contents.values()))
    assert ledger.bytes == sum(len(body.encode()) for body in contents.values())
    assert ledger.files_found == len(contents)
    assert all(len(made.tokens(name)) == counts.tokens for name, counts in ledger.splits.items())
    assert all(len(made.document_starts(name)) == counts.documents for name, counts in ledger.splits.items())
