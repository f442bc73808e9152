"""Headers of safetensors files: sound ones read back, every broken one named."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxctl.errors import CheckpointError
from mlxctl.sharding.arrays import DTYPES as MLX_DTYPES
from mlxctl.sharding.safetensors import DTYPES, TensorHeader, parse_header, safetensors_header

pytestmark = pytest.mark.unit


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_the_header_of_a_file_that_mlx_wrote_gives_dtypes_shapes_and_places(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays = {"a": mx.arange(6).reshape(2, 3).astype(mx.bfloat16), "b": mx.array(True), "c": mx.zeros((0, 4))}
    mx.save_safetensors(str(path), arrays)
    header = safetensors_header(path)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in header.items()} == {
        "a": ("bfloat16", (2, 3)),
        "b": ("bool", ()),
        "c": ("float32", (0, 4)),
    }
    raw = path.read_bytes()[header["a"].start : header["a"].stop]
    assert raw == bytes(memoryview(arrays["a"].view(mx.uint8)))  # type: ignore[arg-type]


def test_every_dtype_named_is_one_of_ours() -> None:
    assert {name for name, _ in DTYPES.values()} <= MLX_DTYPES.keys()
    assert all(MLX_DTYPES[name].size == size for name, size in DTYPES.values())


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        ({"a": entry("F32", [2], 0, 8)}, b"1234", "truncated"),
        ({"a": entry("F32", [2], 0, 8)}, b"123456789", "follow"),
        ({"a": entry("F32", [3], 0, 8)}, b"12345678", "its shape needs 12"),
        ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12), "overlaps"),
        ({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, bytes(12), "gap"),
        ({"a": entry("F4", [2], 0, 1)}, b"1", "'F4'"),
        ({"a": entry("F32", [-2], 0, -8)}, b"", "impossible"),
        ({"a": entry("F32", [True], 0, 4)}, b"1234", "impossible"),
        ({"a": {"dtype": "F32"}}, b"", "lacks"),
        ({"a": 5}, b"", "lacks"),
        ([1], b"", "not a JSON object"),
        (b'{"a": 1, "a": 2}', b"", "twice"),
        (b"[" * 100_000, b"", "not JSON"),
        (b"\xff", b"", "not JSON"),
    ],
)
def test_a_broken_file_is_named_with_its_fault(tmp_path: Path, header: Any, data: bytes, says: str) -> None:
    path = write(tmp_path / "broken.safetensors", header, data)
    with pytest.raises(CheckpointError, match=r"broken\.safetensors") as raised:
        safetensors_header(path)
    assert says in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize("content", [b"", b"1234", struct.pack("<Q", 50) + b"{}", struct.pack("<Q", 2**63) + b"{}"])
def test_a_header_that_cannot_be_there_is_not_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"short\.safetensors"):
        safetensors_header(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.safetensors"):
        safetensors_header(tmp_path / "absent.safetensors")


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_arbitrary_bytes_are_a_header_or_a_checkpoint_error(raw: bytes, file_bytes: int) -> None:
    with contextlib.suppress(CheckpointError):
        parse_header(raw, file_bytes, "x")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
)
nearly_entries = st.fixed_dictionaries(
    {"dtype": st.sampled_from([*DTYPES]) | json_values, "shape": json_values, "data_offsets": json_values}
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=4), nearly_entries | json_values, max_size=3))
def test_arbitrary_json_is_a_header_or_a_checkpoint_error(header: dict[str, Any]) -> None:
    try:
        tensors = parse_header(json.dumps(header).encode(), 100, "x")
    except CheckpointError:
        return
    assert all(isinstance(tensor, TensorHeader) for tensor in tensors.values())
