"""The codec of what crosses a cut: any pytree comes back, anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.models.cache import KVCache
from mlx_lm.models.kimi_k3 import ResidualBlocks

from mlxctl.errors import CheckpointError, CorruptFrame
from mlxctl.sharding.arrays import DTYPES, array_bytes
from mlxctl.sharding.boundary import Blank, Boundary, Tensor, decode_boundary, encode_boundary

pytestmark = pytest.mark.unit

arrays = st.builds(
    lambda shape, dtype: mx.ones(shape, DTYPES[dtype]),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(["float32", "bfloat16", "bool", "int32"]),
)
blanks = st.builds(Blank, st.just("float16"), st.tuples(st.integers(0, 5)))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
trees = st.recursive(
    arrays | blanks | scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


def through_bytes(boundary: Boundary) -> Boundary:
    spec, encoded = encode_boundary(boundary)
    return decode_boundary(spec, [Tensor("uint8", array.shape, bytes(array_bytes(array))) for array in encoded])


def same(one: Any, other: Any) -> bool:
    if isinstance(one, mx.array):
        return isinstance(other, mx.array) and one.dtype == other.dtype and bool(mx.array_equal(one, other).item())
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)


@settings(deadline=None)
@given(trees, st.lists(st.dictionaries(st.text(max_size=3), trees, max_size=2), max_size=2))
def test_any_tree_comes_back(value: Any, dicts: list[dict[str, Any]]) -> None:
    back = through_bytes(Boundary(value, tuple(dicts)))
    assert same(back.value, value)
    assert same(list(back.dicts), dicts)


def test_an_object_of_a_model_class_comes_back() -> None:
    blocks = ResidualBlocks(1e-5)
    blocks.append(mx.ones((1, 2, 4)))
    back = through_bytes(Boundary((mx.zeros((1,)), blocks))).value[1]
    assert type(back) is ResidualBlocks
    assert (back.eps, back.raw.tolist()) == (1e-5, blocks.raw.tolist())


def test_an_array_that_occurs_twice_travels_once() -> None:
    array = mx.ones((4,))
    spec, encoded = encode_boundary(Boundary((array, array)))
    assert len(encoded) == 1
    assert len(decode_boundary(spec, [Tensor("uint8", (16,), bytes(16))]).arrays) == 2


def test_a_blank_travels_without_bytes_and_reads_as_zeros() -> None:
    boundary = Boundary((mx.ones((1,)), Blank("bfloat16", (2, 3))))
    assert len(encode_boundary(boundary)[1]) == 1
    filled = through_bytes(boundary).filled().value[1]
    assert (filled.dtype, filled.shape) == (mx.bfloat16, (2, 3))


def test_a_snapshot_keeps_what_it_saw() -> None:
    array, state = mx.zeros((2,)), {"a": mx.zeros((1,))}
    kept = Boundary(array, (state,)).snapshot()
    array[0] = 5
    state["a"] = mx.ones((1,))
    assert kept.value.tolist() == [0, 0]
    assert kept.dicts[0]["a"].tolist() == [0]


@pytest.mark.parametrize("node", [KVCache(), nn.Linear(1, 1), object(), {1: 2}, {1, 2}, b"x", ResidualBlocks])
def test_what_no_other_stage_can_rebuild_is_refused(node: Any) -> None:
    with pytest.raises(CheckpointError, match="cannot cross"):
        encode_boundary(Boundary((mx.zeros((1,)), node)))


ONE = Tensor("uint8", (4,), b"1234")


@pytest.mark.parametrize(
    ("spec", "tensors"),
    [
        ('{"l":[{"a":[0,"float32",[1]]},{"l":[]}]}', []),
        ('{"l":[{"a":[-1,"float32",[1]]},{"l":[]}]}', [ONE]),
        ('{"l":[{"s":1},{"l":[]}]}', [ONE]),
        ('{"l":[{"a":[0,"float32",[2]]},{"l":[]}]}', [ONE]),
        ('{"l":[{"a":[0,"float32",[1]]},{"l":[]}]}', [Tensor("float32", (1,), b"1234")]),
        ('{"l":[{"z":["float32",[-1]]},{"l":[]}]}', []),
        ('{"l":[{"z":["float99",[1]]},{"l":[]}]}', []),
        ('{"l":[{"s":[1]},{"l":[]}]}', []),
        ('{"l":[{"s":1},{"l":[{"s":1}]}]}', []),
        ('{"l":[{"s":1}]}', []),
        ('{"s":1}', []),
        ('{"x":1}', []),
        ("{}", []),
        ("[]", []),
        ("", []),
        ('{"t":' * 50_000, []),
        ('{"l":[{"o":["os","system",{}]},{"l":[]}]}', []),
        ('{"l":[{"o":["mlx_lm.models.cache","KVCache",{}]},{"l":[]}]}', []),
        ('{"l":[{"o":["mlx_lm.models.llama","Model",{}]},{"l":[]}]}', []),
        ('{"l":[{"o":["mlx_lm.models.olmo","Model",{}]},{"l":[]}]}', []),
        ('{"l":[{"o":["mlx_lm.models.cache","copy",{}]},{"l":[]}]}', []),
        ('{"l":[{"o":[1,2,3]},{"l":[]}]}', []),
        ('{"l":[' + '{"s":0},' * 200_000 + '{"s":0}]}', []),
    ],
)
def test_a_structure_that_the_codec_would_not_make_is_a_corrupt_frame(spec: str, tensors: list[Tensor]) -> None:
    with pytest.raises(CorruptFrame):
        decode_boundary(spec, tensors)


def test_a_structure_changed_in_any_one_character_never_fails_otherwise() -> None:
    spec, encoded = encode_boundary(Boundary((mx.ones((2,)), {"k": 1.5, "b": Blank("int8", (3,))})))
    tensors = [Tensor("uint8", array.shape, bytes(array_bytes(array))) for array in encoded]
    for place in range(len(spec)):
        for character in '0{["x,':
            try:
                decode_boundary(spec[:place] + character + spec[place + 1 :], tensors)
            except CorruptFrame:
                continue


def test_the_structure_is_plain_json() -> None:
    spec, _ = encode_boundary(Boundary(mx.zeros((1, 2, 3), mx.bfloat16)))
    assert json.loads(spec) == {"l": [{"a": [0, "bfloat16", [1, 2, 3]]}, {"l": []}]}
