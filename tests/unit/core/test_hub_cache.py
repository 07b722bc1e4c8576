"""Unit tests of `ml_playground.core.hub_cache`."""

from pathlib import Path

import pytest
from huggingface_hub import snapshot_download
from huggingface_hub.file_download import repo_folder_name

from ml_playground.configuration.origins import absolute
from ml_playground.core.hub_cache import cache_folder, snapshot

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache as the hub's library fills it, with one model."""
    place = tmp_path / repo_folder_name(repo_id="org/model-1.5", repo_type="model")
    (place / "snapshots" / COMMIT).mkdir(parents=True)
    (place / "snapshots" / COMMIT / "config.json").write_text("{}", encoding="utf-8")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT, encoding="ascii")
    return tmp_path


@pytest.mark.parametrize("name", ["org/model-1.5", "org/model-1.5@main", f"org/model-1.5@{COMMIT}"])
def test_what_was_fetched_is_found_where_the_hubs_own_library_finds_it(name: str, cache: Path) -> None:
    """By branch or commit."""
    found = snapshot(name, {"HF_HUB_CACHE": str(cache)})
    repository, _, revision = name.partition("@")
    theirs = snapshot_download(repository, revision=revision or None, cache_dir=cache, local_files_only=True)
    assert found == Path(theirs)


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({}, str(Path.home() / ".cache/huggingface/hub")),
    ],
)
def test_the_cache_lies_where_its_variables_say(environ: dict[str, str], folder: str) -> None:
    """In the order of the hub's library."""
    assert cache_folder(environ) == Path(folder)


@pytest.mark.parametrize("name", ["org/other", "org/model-1.5@v2", "model"])
def test_what_was_not_fetched_is_named_with_the_command_that_fetches_it(name: str, cache: Path) -> None:
    """Nothing is fetched here."""
    repository, _, revision = name.partition("@")
    more = f" --revision {revision}" if revision else ""
    with pytest.raises(ValueError, match=rf"is not among what was fetched .*: hf download {repository}{more}$"):
        snapshot(name, {"HF_HUB_CACHE": str(cache)})


@pytest.mark.parametrize("name", ["", "../org", "org/../x", "a/b/c", "org/..", "a--b", "org/a b", "/etc/passwd"])
def test_a_name_that_could_leave_the_cache_is_none(name: str, cache: Path) -> None:
    """Whatever it spells."""
    with pytest.raises(ValueError, match="is no name of the hub; write ORG/NAME or ORG/NAME@REVISION"):
        snapshot(name, {"HF_HUB_CACHE": str(cache)})


def test_a_reference_that_leads_elsewhere_is_not_followed(cache: Path) -> None:
    """A cache may be a stranger's."""
    (cache / "models--org--model-1.5" / "refs" / "main").write_text("../../../etc", encoding="ascii")
    with pytest.raises(ValueError, match="not among what was fetched"):
        snapshot("org/model-1.5", {"HF_HUB_CACHE": str(cache)})


def test_a_setting_that_is_a_path_takes_the_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """model.path = "hub:ORG/NAME"."""
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    assert absolute("hub:org/model-1.5", Path("/somewhere")) == str(
        cache / "models--org--model-1.5" / "snapshots" / COMMIT
    )
