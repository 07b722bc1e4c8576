"""Named tensors as one safetensors file."""

import hashlib
import json
import weakref
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.torch_tensors import read_tensors, stored_bytes, write_tensors

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint64,
    torch.uint32,
    torch.uint16,
    torch.uint8,
    torch.bool,
]


def of_every_kind() -> dict[str, Tensor]:
    """All types; no, one and several dimensions; empty; not contiguous; a parameter; conjugated."""
    kinds = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES}
    return kinds | {
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "strided": torch.arange(10.0)[::3],
        "expanded": torch.ones(1).expand(5),
        "single, expanded": torch.ones(()).expand(1, 1),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "conjugated": torch.tensor([1 + 2j], dtype=torch.complex64).conj(),
        "ünicode name": torch.ones(1),
    }


def test_write_any_tensor_is_read_back_by_us_and_by_the_library(tmp_path: Path) -> None:
    """Type, shape and every bit survive."""
    tensors = of_every_kind()
    write_tensors(tmp_path / "a.safetensors", tensors)
    for found in (read_tensors(tmp_path / "a.safetensors"), load_file(tmp_path / "a.safetensors")):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert found[name].tolist() == tensor.tolist()


class Watched(Tensor):
    """Counts, when it is written, which of several are still there."""

    others: ClassVar[list[weakref.ref[Tensor]]] = []
    there: ClassVar[list[int]] = []

    def detach(self) -> Tensor:
        self.there.append(sum(other() is not None for other in self.others))
        return self.as_subclass(Tensor).detach()


def test_write_lets_go_of_each_tensor_that_is_written(tmp_path: Path) -> None:
    """Whoever gives them up has their memory back one by one, not when the last is on its way to the disk."""
    Watched.there.clear()
    tensors: dict[str, Tensor] = {name: torch.ones(3).as_subclass(Watched) for name in "abcd"}
    Watched.others[:] = [weakref.ref(tensor) for tensor in tensors.values()]
    write_tensors(tmp_path / "a", tensors, let_go=tensors.clear)
    assert Watched.there == [4, 3, 2, 1]
    assert read_tensors(tmp_path / "a").keys() == set("abcd")
    assert not any(other() is not None for other in Watched.others)


def test_write_records_size_and_hash_of_the_file(tmp_path: Path) -> None:
    """What was hashed on the way is what lies on the disk."""
    record = write_tensors(tmp_path / "a.safetensors", of_every_kind())
    content = (tmp_path / "a.safetensors").read_bytes()
    assert record.size_bytes == len(content)
    assert record.sha256 == hashlib.sha256(content).hexdigest()


def test_write_equal_tensors_in_another_order_gives_equal_bytes(tmp_path: Path) -> None:
    """Resumed runs are compared by the bytes of their files."""
    tensors = of_every_kind()
    first = write_tensors(tmp_path / "a", tensors)
    second = write_tensors(tmp_path / "b", {name: tensors[name].clone() for name in reversed(tensors)})
    assert first == second


def test_write_gives_the_bytes_that_the_library_writes(tmp_path: Path) -> None:
    """The format is the library's, so its own writer is the measure."""
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2), "empty": torch.zeros(0)}
    write_tensors(tmp_path / "a", tensors)
    assert (tmp_path / "a").read_bytes() == save(tensors)


def test_write_tied_tensors_stores_one_and_reads_all(tmp_path: Path) -> None:
    """A head that is its embedding costs nothing and comes back tied."""
    weight = torch.arange(300.0).reshape(100, 3)
    tensors = {"head": weight, "embedding": weight.detach(), "transposed": weight.T, "rows": weight[:50]}
    record = write_tensors(tmp_path / "a", tensors)
    assert stored_bytes(tensors) == 1200 + 1200 + 600
    assert record.size_bytes < stored_bytes(tensors) + 500
    found = read_tensors(tmp_path / "a")
    assert found["head"].data_ptr() == found["embedding"].data_ptr()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)


def test_write_tied_tensors_has_one_metadata_key(tmp_path: Path) -> None:
    """The order of several keys would not be stable."""
    weight = torch.ones(2)
    write_tensors(tmp_path / "a", {"c": weight, "b": weight, "a": weight})
    content = (tmp_path / "a").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"] == {"tied": '{"b": "a", "c": "a"}'}


def test_write_conjugated_view_is_not_taken_for_its_base(tmp_path: Path) -> None:
    """Same memory, other numbers."""
    base = torch.tensor([1 + 2j], dtype=torch.complex64)
    write_tensors(tmp_path / "a", {"a": base, "b": base.conj()})
    found = read_tensors(tmp_path / "a")
    assert (found["a"].item(), found["b"].item()) == (1 + 2j, 1 - 2j)


def test_write_unknown_type_is_refused_by_name(tmp_path: Path) -> None:
    """A type that the format lacks is a mistake of the program, not of its user."""
    with pytest.raises(TypeError, match=r"tensor 'a' has type torch\.complex128, which safetensors cannot hold"):
        write_tensors(tmp_path / "a", {"a": torch.zeros(1, dtype=torch.complex128)})


def test_write_nothing_is_a_valid_file(tmp_path: Path) -> None:
    """An optimizer without state is a group too."""
    write_tensors(tmp_path / "a", {})
    assert read_tensors(tmp_path / "a") == {}


def test_read_no_safetensors_says_so(tmp_path: Path) -> None:
    """The message names the file."""
    (tmp_path / "a").write_bytes(b"nonsense" * 10)
    with pytest.raises(CheckpointError, match=r"a cannot be read as tensors \(.*\); restore it from a copy"):
        read_tensors(tmp_path / "a")
    with pytest.raises(CheckpointError, match="missing cannot be read as tensors"):
        read_tensors(tmp_path / "missing")


@pytest.mark.parametrize("tied", ["{", "[1]", '{"b": 3}', '{"b": "missing"}', "[" * 100_000])
def test_read_malformed_tied_names_are_refused(tmp_path: Path, tied: str) -> None:
    """Metadata written by somebody else is checked like the rest."""
    (tmp_path / "a").write_bytes(save({"a": torch.ones(1)}, {"tied": tied}))
    with pytest.raises(CheckpointError, match="a cannot be read as tensors"):
        read_tensors(tmp_path / "a")
