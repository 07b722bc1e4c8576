"""Preparing: what lies on disk, when it is used again, and that nothing half-written or silently changed is."""

import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError, StorageError
from ml_playground.core.run_folder import data_folder
from ml_playground.data_pipeline.manifest import Prepared, open_prepared
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.progress import PrepareProgress
from ml_playground.tokenization.loading import load_tokenizer
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.local_fetch import LocalFetch
from tests.fakes.prepared_text import prepare_settings, prepared_text, text_settings, write_texts

TEXT = "".join(f"line {number}: to be, or nöt to be?\n" for number in range(60))
SHAKESPEARE = Path(__file__).parents[4] / "shared" / "data" / "tinyshakespeare.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
EVERY_TOKENIZER = pytest.mark.parametrize("tokenizer", ["char", "byte", {"kind": "byte_bpe", "vocab_size": 300}])


def text_in(prepared: Prepared) -> str:
    """All splits, decoded."""
    tokenizer = load_tokenizer(prepared.tokenizer_folder)
    return "".join(tokenizer.decode(prepared.tokens(split).tolist()) for split in prepared.manifest.splits)


def names_in(folder: Path) -> list[str]:
    """What a listing shows, locks left out."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []


@EVERY_TOKENIZER
def test_prepare_known_text_writes_every_character(tmp_path: Path, tokenizer: Any) -> None:
    """The text is found again in train and val together."""
    assert text_in(prepared_text(tmp_path, TEXT, tokenizer=tokenizer)) == TEXT


def test_prepare_lies_under_the_fingerprint_of_its_settings(tmp_path: Path) -> None:
    """Other settings, another folder beside it."""
    write_texts(tmp_path, {"a.txt": TEXT})
    one, two = text_settings(tmp_path / "a.txt"), text_settings(tmp_path / "a.txt", val_fraction=0.2)
    folders = [prepare(settings, Deps()).folder for settings in (one, two)]
    assert folders == [prepared_folder(one), prepared_folder(two)]
    assert names_in(data_folder()) == sorted(folder.name for folder in folders)


def test_prepare_by_position_cuts_where_the_fraction_says(tmp_path: Path) -> None:
    """The last part is for validation, the one after it for the test."""
    prepared = prepared_text(tmp_path, "abcdefghij" * 10, val_fraction=0.2, test_fraction=0.1)
    counts = {name: one.characters for name, one in prepared.manifest.ledger.splits.items()}
    assert counts == {"train": 70, "val": 20, "test": 10}


def test_prepare_char_vocabulary_is_that_of_the_training_part(tmp_path: Path) -> None:
    """Validation text must not teach; what is new there is counted as unknown."""
    prepared = prepared_text(tmp_path, "ab" * 45 + "abzzabzzzz")
    assert prepared.manifest.vocab_size == 3
    assert prepared.manifest.ledger.splits["val"].unknown_tokens == 6
    assert prepared.manifest.ledger.splits["train"].unknown_tokens == 0


def test_prepare_ends_documents_where_the_tokenizer_can_say_so(tmp_path: Path) -> None:
    """After each document, and not where a split cuts one."""
    folder = write_texts(tmp_path, {"a.txt": "aaaa", "b.txt": "bbbbbb"})
    prepared = prepare(text_settings(folder, tokenizer="byte", val_fraction=0.2), Deps())
    assert prepared.tokens("train").tolist() == [97] * 4 + [256] + [98] * 4
    assert prepared.tokens("val").tolist() == [98, 98, 256]
    assert prepared.document_starts("train").tolist() == [0, 5]


def test_prepare_by_document_keeps_documents_whole(tmp_path: Path) -> None:
    """The last documents are for validation."""
    folder = write_texts(tmp_path, {f"{number}.txt": f"{number}" * 10 for number in range(10)})
    prepared = prepare(text_settings(folder, split_by="document", val_fraction=0.2), Deps())
    assert prepared.manifest.ledger.splits["train"].documents == 8
    assert prepared.manifest.ledger.splits["val"].documents == 2


def test_prepare_by_hash_without_luck_names_the_empty_split(tmp_path: Path) -> None:
    """Two documents may both fall into training."""
    folder = write_texts(tmp_path, {"0.txt": "abc", "3.txt": "abc"})
    with pytest.raises(
        DataError, match=r"split_by = 'hash' puts none of the 2 documents into 'val'; raise that split's"
    ):
        prepare(text_settings(folder, split_by="hash", val_fraction=0.1), Deps())
    assert names_in(data_folder()) == []


def test_prepare_one_document_by_document_leaves_nothing_behind(tmp_path: Path) -> None:
    """An error on the way is an absent data set."""
    with pytest.raises(DataError, match="1 document, too few"):
        prepared_text(tmp_path, TEXT, split_by="document")
    assert names_in(data_folder()) == []


def test_prepare_without_copies_is_the_same_for_every_number_of_processes(tmp_path: Path) -> None:
    """Which documents are copies is settled before the work is shared."""
    folder = write_texts(tmp_path, {f"{number}.txt": TEXT * (1 + number % 3) for number in range(7)})
    settings = text_settings(folder, tokenizer={"kind": "byte_bpe", "vocab_size": 300}, duplicates="drop")
    made = [prepare(settings, Deps(), workers=number, fresh=True).manifest for number in (1, 2)]
    assert made[0].fingerprint == made[1].fingerprint
    assert made[0].ledger == made[1].ledger
    assert made[0].ledger.dropped["duplicate"].documents == 4


def test_prepare_of_hardly_anything_but_copies_says_that_they_were_dropped(tmp_path: Path) -> None:
    """The source shows more documents than are counted."""
    folder = write_texts(tmp_path, {f"{number}.txt": "the same" for number in range(5)})
    assert prepare(text_settings(folder, split_by="document"), Deps())
    with pytest.raises(DataError, match=r"has 1 document, too few .*has 4 copies, which prepare.duplicates = 'drop'"):
        prepare(text_settings(folder, split_by="document", duplicates="drop"), Deps())


def test_prepare_again_uses_what_is_there(tmp_path: Path) -> None:
    """Nothing is rewritten."""
    first = prepared_text(tmp_path, TEXT)
    before = (first.folder / "train.tokens").stat().st_mtime_ns
    again = prepared_text(tmp_path, TEXT)
    assert again.reused
    assert not first.reused
    assert again.manifest == first.manifest
    assert (again.folder / "train.tokens").stat().st_mtime_ns == before


def test_prepare_changed_source_refuses_and_says_how_to_go_on(tmp_path: Path) -> None:
    """Never silently reused, never silently rewritten."""
    first = prepared_text(tmp_path, TEXT)
    with pytest.raises(
        DataError, match=r"changed since .* was prepared from it: text\.txt changed\. Prepare it anew .*--fresh"
    ):
        prepared_text(tmp_path, TEXT + "more")
    assert open_prepared(first.folder).manifest == first.manifest


def test_prepare_changed_folder_names_what_is_new_gone_and_changed(tmp_path: Path) -> None:
    """At most three, then how many more."""
    folder = write_texts(tmp_path, {f"{name}.txt": "text" for name in "abcd"})
    prepare(text_settings(folder), Deps())
    (folder / "a.txt").unlink()
    write_texts(folder, {"b.txt": "other", "e.txt": "new", "f.txt": "new"})
    with pytest.raises(DataError, match=r": a\.txt is gone, b\.txt changed, e\.txt is new, 1 more\. "):
        prepare(text_settings(folder), Deps())


def test_prepare_fresh_keeps_the_old_data_set_beside_the_new_one(tmp_path: Path) -> None:
    """Named by the date."""
    first = prepared_text(tmp_path, TEXT)
    write_texts(tmp_path, {"text.txt": TEXT + "to be"})
    settings = text_settings(tmp_path / "text.txt")
    second = prepare(settings, Deps(clock=FixedClock()), fresh=True)
    assert second.set_aside == first.folder.with_name(f"{first.folder.name}.old-20260102-030405")
    assert open_prepared(second.set_aside).manifest == first.manifest
    assert text_in(second) == TEXT + "to be"
    assert not prepare(settings, Deps(clock=FixedClock())).set_aside


def test_prepare_fresh_twice_in_a_second_keeps_both(tmp_path: Path) -> None:
    """No name is used twice."""
    prepared_text(tmp_path, TEXT)
    settings = text_settings(tmp_path / "text.txt")
    kept = {prepare(settings, Deps(clock=FixedClock()), fresh=True).set_aside for _ in range(2)}
    assert {path.name.partition(".")[2] for path in kept if path} == {"old-20260102-030405", "old-20260102-030405-2"}


def test_prepare_fresh_that_fails_leaves_the_old_data_set_in_place(tmp_path: Path) -> None:
    """Nothing is lost for nothing."""
    first = prepared_text(tmp_path, TEXT)
    (tmp_path / "text.txt").write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match="is not utf-8"):
        prepare(text_settings(tmp_path / "text.txt"), Deps(), fresh=True)
    assert names_in(data_folder()) == [first.folder.name]
    assert open_prepared(first.folder).manifest == first.manifest


def test_prepare_damaged_data_set_is_refused_and_fresh_mends_it(tmp_path: Path) -> None:
    """The damaged one is kept, too."""
    first = prepared_text(tmp_path, TEXT)
    (first.folder / "val.tokens").write_bytes(b"")
    settings = text_settings(tmp_path / "text.txt")
    with pytest.raises(DataError, match=r"val\.tokens has 0 bytes"):
        prepare(settings, Deps())
    assert text_in(prepare(settings, Deps(), fresh=True)) == TEXT


@pytest.mark.parametrize("phase", ["learning", "encoding"])
def test_prepare_source_that_changes_meanwhile_is_refused(tmp_path: Path, phase: str) -> None:
    """Two readings must read the same."""
    path = write_texts(tmp_path, {"text.txt": TEXT}) / "text.txt"

    def edit(progress: PrepareProgress) -> None:
        if progress.phase == phase:
            path.write_text(TEXT.upper())

    with pytest.raises(
        DataError, match=r"changed while it was being prepared: text\.txt changed\. Nothing was written"
    ):
        prepare(text_settings(path), Deps(), report=edit)
    assert names_in(data_folder()) == []


def test_prepare_reports_its_phases_in_order(tmp_path: Path) -> None:
    """For a progress bar: known ends where they are known."""
    path = write_texts(tmp_path, {"text.txt": TEXT}) / "text.txt"
    seen: list[PrepareProgress] = []
    prepare(text_settings(path), Deps(), report=seen.append)
    assert [one.phase for one in seen] == ["fetching", "reading", "learning", "encoding", "checking"]
    assert (seen[3].characters, seen[3].of_characters) == (len(TEXT), len(TEXT))


def test_prepare_while_another_process_prepares_the_same_waits_for_it(tmp_path: Path) -> None:
    """One does the work, the other uses it."""
    path = write_texts(tmp_path, {"text.txt": TEXT}) / "text.txt"
    settings = text_settings(path)
    data_folder().mkdir(parents=True)
    other = FileLock(data_folder() / f".{prepared_folder(settings).name}.lock")
    other.acquire()
    seen: list[str] = []

    def report(progress: PrepareProgress) -> None:
        seen.append(progress.phase)
        other.release()

    prepare(settings, Deps(), report=report)
    assert seen[0] == "waiting"
    assert seen.count("waiting") == 1


def test_prepare_url_uses_the_fetch_it_was_given() -> None:
    """The network is a dependency, and prepared data need it no more."""
    url = "https://example.org/text"
    settings = prepare_settings({"kind": "url_text", "url": url})
    fetch = LocalFetch({url: TEXT.encode()})
    assert text_in(prepare(settings, Deps(fetch=fetch))) == TEXT
    assert prepare(settings, Deps(fetch=LocalFetch({}))).reused
    assert len(fetch.asked) == 1


def test_prepare_fresh_fetches_a_text_without_hash_anew() -> None:
    """The address has a new text; only --fresh asks for it, and what cannot be fetched replaces nothing."""
    url = "https://example.org/text"
    settings = prepare_settings({"kind": "url_text", "url": url})
    prepare(settings, Deps(fetch=LocalFetch({url: TEXT.encode()})))
    newer = LocalFetch({url: TEXT.upper().encode()})
    assert text_in(prepare(settings, Deps(fetch=newer))) == TEXT
    with pytest.raises(DataError, match="could not be fetched"):
        prepare(settings, Deps(fetch=LocalFetch({}), sleep=lambda _: None), fresh=True)
    assert prepare(settings, Deps(fetch=LocalFetch({}))).reused
    assert text_in(prepare(settings, Deps(fetch=newer), fresh=True)) == TEXT.upper()
    assert len(newer.asked) == 1


@pytest.mark.skipif(not SHAKESPEARE.is_file(), reason="the text is not on this machine")
def test_prepare_tiny_shakespeare_gives_the_split_of_nanogpt() -> None:
    """65 characters and unknown; the first nine tenths to train on."""
    settings = prepare_settings(
        {"kind": "url_text", "url": SHAKESPEARE.resolve().as_uri(), "sha256": SHAKESPEARE_SHA256}
    )
    prepared = prepare(settings, Deps())
    assert prepared.manifest.vocab_size == 66
    assert len(prepared.tokens("train")) == 1_003_854
    assert len(prepared.tokens("val")) == 111_540


def test_prepare_twice_from_scratch_gives_equal_fingerprints(tmp_path: Path) -> None:
    """The data set is a function of source and settings."""
    settings = {"tokenizer": {"kind": "byte_bpe", "vocab_size": 300}}
    first = prepared_text(tmp_path, TEXT, **settings)
    second = prepare(text_settings(tmp_path / "text.txt", **settings), Deps(), fresh=True)
    assert first.fingerprint == second.fingerprint


def test_prepare_other_text_or_tokenizer_gives_another_fingerprint(tmp_path: Path) -> None:
    """A run goes on only with the data it began with."""
    made = [
        prepared_text(tmp_path / "1", TEXT),
        prepared_text(tmp_path / "2", TEXT + "x"),
        prepared_text(tmp_path / "3", TEXT, tokenizer="byte"),
    ]
    assert len({one.fingerprint for one in made}) == 3


def test_prepare_long_text_in_pieces_equals_encoding_it_at_once(tmp_path: Path) -> None:
    """More than a megabyte: pieces, chunks and batches cannot be seen in the ids."""
    text = "".join(f"{number} bottles of böer on the wall,\n\n   take {number % 7} down\n" for number in range(25_000))
    prepared = prepared_text(tmp_path, text, tokenizer={"kind": "byte_bpe", "vocab_size": 300})
    tokenizer = load_tokenizer(prepared.tokenizer_folder)
    end = prepared.manifest.ledger.splits["train"].characters
    assert len(text) > 1_200_000
    assert np.array_equal(prepared.tokens("train"), tokenizer.encode_arrays([text[:end]])[0])


def test_prepare_where_data_cannot_be_written_names_the_place(tmp_path: Path, home: Path) -> None:
    """A file stands where the folder should be."""
    home.mkdir()
    (home / "data").write_text("in the way")
    with pytest.raises(StorageError, match=r"Could not write .*/home/data/"):
        prepared_text(tmp_path, TEXT)


def test_what_was_left_of_a_data_set_that_another_prepares_is_not_touched(tmp_path: Path) -> None:
    """Who clears it away holds it meanwhile, and the other would be refused; once nobody prepares it, it goes."""
    left = data_folder() / ".other.partial" / "new"
    left.mkdir(parents=True)
    with FileLock(data_folder() / ".other.lock"):
        prepared_text(tmp_path, TEXT)
        assert left.exists()
    prepared_text(tmp_path, TEXT)
    assert not left.parent.exists()


PREPARE_IN_A_CHILD = """
import os, signal, sys
from pathlib import Path
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import StorageError
from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.configuration.models import PrepareSettings
from ml_playground.data_pipeline.preparer import prepare
settings = PrepareSettings.model_validate_json(sys.argv[1])
"""


def child(settings: Any, code: str, **limits: Any) -> subprocess.CompletedProcess[str]:
    """A process that prepares."""
    command = [sys.executable, "-c", PREPARE_IN_A_CHILD + textwrap.dedent(code), settings.model_dump_json()]
    return subprocess.run(command, capture_output=True, text=True, check=False, **limits)


@pytest.mark.usefixtures("uncovered")
def test_prepare_killed_while_encoding_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    """The next start does the work."""
    settings = text_settings(write_texts(tmp_path, {"text.txt": TEXT}) / "text.txt")
    killed = child(
        settings,
        "prepare(settings, Deps(), report=lambda p: p.phase == 'checking' and os.kill(os.getpid(), signal.SIGKILL))",
    )
    assert killed.returncode == -signal.SIGKILL
    assert not prepared_folder(settings).exists()
    prepared = prepare(settings, Deps())
    assert text_in(prepared) == TEXT
    assert names_in(data_folder()) == [prepared.folder.name]


@pytest.mark.usefixtures("uncovered")
def test_prepare_on_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    settings = text_settings(write_texts(tmp_path, {"text.txt": TEXT * 20}) / "text.txt")
    failed = child(
        settings,
        """
        try:
            prepare(settings, Deps())
        except StorageError as error:
            sys.exit(str(error))
        """,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert failed.stderr.startswith(
        f"Could not write {prepared_folder(settings)}: the file would be larger than allowed"
    )
    assert names_in(data_folder()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize(("tokenizer", "megabytes"), [("char", 20), ({"kind": "byte_bpe", "vocab_size": 300}, 3)])
def test_prepare_big_text_needs_little_memory_and_no_torch(tmp_path: Path, tokenizer: Any, megabytes: int) -> None:
    """Far below the 600 MB that are allowed for 20 MB of text."""
    settings = text_settings(
        write_texts(tmp_path, {"text.txt": TEXT * (megabytes * 1_000_000 // len(TEXT))}) / "text.txt",
        tokenizer=tokenizer,
    )
    done = child(
        settings,
        """
        prepare(settings, Deps())
        # ru_maxrss would count the parent, too, from before the child's exec.
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(int(peak.split()[1]) // 1024, "torch" in sys.modules)
        """,
    )
    peak_mb, torch_imported = done.stdout.split()
    assert int(peak_mb) < 250
    assert torch_imported == "False"
