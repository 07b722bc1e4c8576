"""A folder is written nowhere near what it is made of."""

from pathlib import Path

import pytest

from ml_playground.core.error_handling import ConfigError
from ml_playground.export.place import refuse_sources


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder three deep, and links to it and to what holds it."""
    found = tmp_path / "models" / "base"
    found.mkdir(parents=True)
    (tmp_path / "to_base").symlink_to(found)
    (tmp_path / "to_models").symlink_to(tmp_path / "models")
    return found


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "models/base",
            r"--out .*models/base is the base \(.*base\), which is read for it .* replace it; name another",
        ),
        ("models/../models/base", "is the base"),
        ("to_base", "to_base is the base"),
        ("to_models/base", "is the base"),
        ("models", "models holds the base"),
        ("to_models", "to_models holds the base"),
        (".", "holds the base"),
        ("models/base/new/folder", r"lies in the base \(.*stays as it is; name another folder"),
        ("to_base/new", "lies in the base"),
    ],
)
def test_place_over_around_or_in_a_source_is_refused(source: Path, tmp_path: Path, place: str, message: str) -> None:
    """However it is spelt."""
    with pytest.raises(ConfigError, match=message):
        refuse_sources(tmp_path / place, {"the base": source})


def test_source_behind_a_link_is_known_by_what_it_is(source: Path, tmp_path: Path) -> None:
    """What holds the folder itself holds it, not what holds the link."""
    with pytest.raises(ConfigError, match="models holds the base"):
        refuse_sources(tmp_path / "models", {"the base": tmp_path / "to_base"})


@pytest.mark.parametrize("place", ["new", "models/new", "models/base-2", "to_models/new"])
def test_place_beside_a_source_is_taken(source: Path, tmp_path: Path, place: str) -> None:
    """Also where one name begins with the other; a source that is not there forbids nothing."""
    refuse_sources(tmp_path / place, {"the base": source, "the data": tmp_path / "gone"})
