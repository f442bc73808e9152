"""The header of a safetensors file, checked before anything trusts it. Called by model.py and by checkpoint facts."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from mlxctl.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
LENGTH_BYTES = 8

# What MLX loads, as safetensors names it -> MLX dtype name, bytes per element.
DTYPES: Mapping[str, tuple[str, int]] = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "F8_E4M3": ("uint8", 1),
    "U16": ("uint16", 2),
    "I16": ("int16", 2),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "U32": ("uint32", 4),
    "I32": ("int32", 4),
    "F32": ("float32", 4),
    "U64": ("uint64", 8),
    "I64": ("int64", 8),
    "F64": ("float64", 8),
    "C64": ("complex64", 8),
}


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor: its dtype as MLX names it, its shape, and its bytes [start, stop) counted from the file's start."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start


def header_length(prefix: bytes, file_bytes: int, name: str) -> int:
    """Bytes of JSON that follow the 8-byte `prefix` of a file of `file_bytes`. Raises CheckpointError."""
    if len(prefix) < LENGTH_BYTES:
        raise _broken(name, f"{len(prefix)} bytes are too few for a safetensors file")
    (length,) = struct.unpack("<Q", prefix[:LENGTH_BYTES])
    if length > MAX_HEADER_BYTES:
        raise _broken(name, f"it claims a header of {length} bytes, more than the {MAX_HEADER_BYTES} allowed")
    if LENGTH_BYTES + length > file_bytes:
        raise _broken(name, f"its header of {length} bytes ends beyond the file's {file_bytes} bytes")
    return int(length)


def parse_header(raw: bytes, file_bytes: int, name: str) -> dict[str, TensorHeader]:
    """Tensors by name, from the JSON `raw` of a file of `file_bytes`. Raises CheckpointError unless all of it holds:
    known dtypes, sizes that match shapes, no gap, no overlap, nothing beyond the end of the file.
    """
    try:
        entries = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(name, f"its header is not JSON: {error}") from None
    if not isinstance(entries, dict):
        raise _broken(name, "its header is not a JSON object")
    entries.pop("__metadata__", None)
    data_start = LENGTH_BYTES + len(raw)
    tensors = {tensor: _tensor_header(tensor, entry, data_start, name) for tensor, entry in entries.items()}
    _check_layout(tensors, data_start, file_bytes, name)
    return tensors


def safetensors_header(path: Path) -> dict[str, TensorHeader]:
    """Tensors of the file at `path`, by name. Reads the header only. Raises CheckpointError naming the file."""
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as file:
            length = header_length(file.read(LENGTH_BYTES), file_bytes, str(path))
            raw = file.read(length)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", hint="download the model again") from None
    return parse_header(raw, file_bytes, str(path))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key occurs twice")
    return entries


def _tensor_header(tensor: str, entry: Any, data_start: int, name: str) -> TensorHeader:
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise _broken(name, f"tensor {tensor!r} lacks a dtype, shape or offsets") from None
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(
            f"{name}: tensor {tensor!r} has dtype {dtype!r}, which MLX does not load",
            hint="use a checkpoint converted for MLX",
        )
    if not isinstance(shape, list) or not all(_is_count(size) for size in (*shape, start, stop)):
        raise _broken(name, f"tensor {tensor!r} has an impossible shape or offsets")
    mlx_dtype, item_bytes = DTYPES[dtype]
    if stop - start != prod(shape) * item_bytes:
        raise _broken(name, f"tensor {tensor!r} holds {stop - start} bytes, its shape needs {prod(shape) * item_bytes}")
    return TensorHeader(mlx_dtype, tuple(shape), data_start + start, data_start + stop)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _check_layout(tensors: Mapping[str, TensorHeader], data_start: int, file_bytes: int, name: str) -> None:
    end = data_start
    for tensor, header in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if header.start != end:
            raise _broken(
                name, f"tensor {tensor!r} {'overlaps' if header.start < end else 'leaves a gap after'} another"
            )
        end = header.stop
    if end > file_bytes:
        raise _broken(name, f"it ends after {file_bytes} of {end} bytes: truncated")
    if end < file_bytes:
        raise _broken(name, f"{file_bytes - end} bytes follow its last tensor")


def _broken(name: str, why: str) -> CheckpointError:
    return CheckpointError(f"{name} is not a sound safetensors file: {why}", hint="download or convert the model again")
