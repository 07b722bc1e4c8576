"""What differs between two accounts of a source."""

from ml_playground.data_pipeline.source_protocol import Provenance, SourceFile, changes


def account(*names: str) -> Provenance:
    """Files whose content is their name."""
    return Provenance(
        kind="text_file", files=tuple(SourceFile(name=name, size_bytes=1, sha256=name * 2) for name in names)
    )


def test_content_depends_on_the_order_of_files() -> None:
    """Another order is another text."""
    assert account("a", "b").content != account("b", "a").content


def test_content_does_not_depend_on_what_else_is_recorded() -> None:
    """Another version of Python with the same files is the same text."""
    old = account("a")
    assert old.model_copy(update={"facts": {"python": "3.99"}}).content == old.content


def test_changes_of_order_alone_says_so() -> None:
    """Same files, another text."""
    assert changes(account("a", "b"), account("b", "a")) == "its files stand in another order"
