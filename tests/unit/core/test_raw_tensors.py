"""Tensors as bytes: what the writer wrote, hashed and compared without torch."""

import math
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.raw_tensors import Gap, gap_between, read_raw_tensors, tensors_sha256
from ml_playground.core.torch_tensors import write_tensors

COUNTED = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]
NUMBERS = st.lists(st.integers(0, 1), min_size=1, max_size=40)


def written(folder: Path, name: str, tensors: dict[str, torch.Tensor]) -> Path:
    """A file of them."""
    path = folder / f"{name}.safetensors"
    write_tensors(path, tensors)
    return path


def gap(folder: Path, one: torch.Tensor, other: torch.Tensor) -> Gap | None:
    """How far two tensors are apart when they lie in files."""
    found = [read_raw_tensors(written(folder, name, {"w": tensor})) for name, tensor in (("a", one), ("b", other))]
    return gap_between(found[0]["w"], found[1]["w"])


def test_read_any_tensor_gives_the_bytes_that_torch_holds(tmp_path: Path) -> None:
    """Two readers, one content: types that numpy lacks, scalars, empty and strided ones."""
    kinds = [*COUNTED, torch.float8_e4m3fn, torch.complex64]
    tensors = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    tensors |= {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4), "strided": torch.arange(10.0)[::3]}
    found = read_raw_tensors(written(tmp_path, "a", tensors))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].shape == tuple(tensor.shape)
        assert found[name].elements == tensor.numel()
        assert found[name].content.tobytes() == tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("kind", COUNTED, ids=str)
@given(numbers=NUMBERS, data=st.data())
def test_gap_counts_the_elements_that_differ_and_finds_the_largest(
    tmp_path: Path, kind: torch.dtype, numbers: list[int], data: st.DataObject
) -> None:
    """As torch itself counts them."""
    others = data.draw(st.lists(st.integers(0, 1), min_size=len(numbers), max_size=len(numbers)))
    one, other = torch.tensor(numbers).to(kind), torch.tensor(others).to(kind)
    differing = int((one != other).sum())
    assert gap(tmp_path, one, other) == (Gap(differing, 1.0) if differing else None)


def test_gap_far_into_a_large_tensor_is_found(tmp_path: Path) -> None:
    """Large ones are read in pieces; the last one counts like the first."""
    one = torch.zeros(17_000_000)
    other = one.clone()
    other[0], other[-1] = 1.0, -3.0
    assert gap(tmp_path, one, other) == Gap(2, 3.0)


def test_gap_of_bits_alone_is_one_of_zero(tmp_path: Path) -> None:
    """Equal numbers with other bits are not the same run."""
    assert gap(tmp_path, torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0])) == Gap(1, 0.0)


def test_gap_with_what_is_no_number_is_none(tmp_path: Path) -> None:
    """A NaN on one side is the worst difference; on both sides, with equal bits, it is no difference."""
    found = gap(tmp_path, torch.tensor([math.nan, 1.0]), torch.tensor([5.0, 3.0]))
    assert found is not None
    assert (found.elements, str(found.largest)) == (2, "nan")
    assert gap(tmp_path, torch.tensor([math.nan, 1.0]), torch.tensor([math.nan, 1.0])) is None


def test_gap_of_a_type_that_numpy_lacks_is_counted_all_the_same(tmp_path: Path) -> None:
    """How many differ is known even where how far is not."""
    one, other = torch.ones(3).to(torch.float8_e4m3fn), torch.zeros(3).to(torch.float8_e4m3fn)
    assert gap(tmp_path, one, other) == Gap(3, None)


def test_hash_is_of_names_types_shapes_and_bits_alone(tmp_path: Path) -> None:
    """Whatever else a file holds and in whatever order, equal tensors have one hash, and others another."""
    tensors = {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.int64)}
    first = tensors_sha256(read_raw_tensors(written(tmp_path, "one", tensors)))
    again = read_raw_tensors(written(tmp_path, "two", dict(reversed(tensors.items()))))
    assert tensors_sha256(dict(reversed(again.items()))) == first
    others = [
        {"a": torch.arange(4.0), "c": tensors["b"]},
        {"a": torch.arange(4.0).reshape(2, 2), "b": tensors["b"]},
        {"a": torch.arange(4.0).view(torch.int32), "b": tensors["b"]},
        {"a": torch.tensor([0.0, 1.0, 2.0, 3.0000002]), "b": tensors["b"]},
        {"a": torch.arange(4.0)},
    ]
    hashes = {
        tensors_sha256(read_raw_tensors(written(tmp_path, str(number), one))) for number, one in enumerate(others)
    }
    assert len(hashes | {first}) == len(others) + 1


@pytest.mark.parametrize("content", [b"", b"short", struct.pack("<Q", 1 << 60), struct.pack("<Q", 2) + b"{}" + b"x"])
def test_read_of_no_tensors_names_the_file(tmp_path: Path, content: bytes) -> None:
    """Neither a length that a stranger made up nor bytes that no tensor owns are believed."""
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="bad.safetensors cannot be read as tensors .*; restore it from a copy"):
        read_raw_tensors(path)


def test_read_of_no_file_names_it(tmp_path: Path) -> None:
    """The same words as for a damaged one."""
    with pytest.raises(CheckpointError, match="none.safetensors cannot be read as tensors"):
        read_raw_tensors(tmp_path / "none.safetensors")


def test_read_of_a_file_without_tensors_is_empty(tmp_path: Path) -> None:
    """An optimizer may remember nothing."""
    assert read_raw_tensors(written(tmp_path, "a", {})) == {}
