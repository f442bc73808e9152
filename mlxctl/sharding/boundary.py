"""What crosses from one stage to the next, a pytree, as JSON and bytes. Called by Shard and the worker."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mlx.core as mx

from mlxctl.errors import CheckpointError, CorruptFrame
from mlxctl.sharding.arrays import DTYPES, array_from_bytes, byte_view, check_header, dtype_name
from mlxctl.sharding.pytree import arrays_in, is_carrier, map_arrays, map_leaves

MAX_SPEC_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Blank:
    """Stands for an array of which only dtype and shape are known: nothing on later stages reads its values."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Boundary:
    """What the layer before a cut returned, and the dicts among its arguments, which layers share by mutating them.

    `value` and `dicts` nest tuples, lists, dicts, carriers (objects of a model's own classes), scalars, arrays, Blanks.
    """

    value: Any
    dicts: tuple[dict[str, Any], ...] = ()

    @property
    def arrays(self) -> dict[str, mx.array]:
        """Its arrays by path."""
        return arrays_in(self._tree)

    @property
    def blanks(self) -> dict[str, Blank]:
        """Its Blanks by path."""
        found: dict[str, Blank] = {}
        map_leaves(lambda path, leaf: found.setdefault(path, leaf) if isinstance(leaf, Blank) else leaf, self._tree)
        return found

    def snapshot(self, blank: Collection[str] = ()) -> Boundary:
        """A copy that later in-place changes do not reach; arrays at the paths `blank` become Blanks."""
        return self.map_arrays(lambda path, array: blank_of(array) if path in blank else mx.stop_gradient(array))

    def map_arrays(self, function: Callable[[str, mx.array], Any]) -> Boundary:
        """A copy with every array replaced by `function(path, array)`."""
        value, dicts = map_arrays(function, self._tree)
        return Boundary(value, tuple(dicts))

    def filled(self) -> Boundary:
        """A copy with lazy zeros in place of Blanks."""
        value, dicts = map_leaves(_filled, self._tree)
        return Boundary(value, tuple(dicts))

    @property
    def _tree(self) -> list[Any]:
        return [self.value, list(self.dicts)]


class Tensor(NamedTuple):
    """An array as it travels. `dtype` and `shape` are those of the arrays that `encode_boundary` returned."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | bytearray | memoryview | mx.array


def blank_of(array: mx.array) -> Blank:
    return Blank(dtype_name(array), tuple(array.shape))


def _filled(_path: str, leaf: Any) -> Any:
    return mx.zeros(leaf.shape, DTYPES[leaf.dtype]) if isinstance(leaf, Blank) else leaf


def encode_boundary(boundary: Boundary) -> tuple[str, list[mx.array]]:
    """Structure as JSON, and the arrays as flat uint8 views: lazy, so evaluate them, then send their memoryviews.

    Raises CheckpointError for an object that no codec of ours knows.
    """
    arrays: dict[int, tuple[int, mx.array]] = {}
    spec = _encode([boundary.value, list(boundary.dicts)], arrays)
    return json.dumps(spec, separators=(",", ":")), [byte_view(array) for _, array in arrays.values()]


def decode_boundary(spec: str, tensors: Sequence[Tensor]) -> Boundary:
    """The Boundary that `encode_boundary` took apart. Raises CorruptFrame for anything it would not have made."""
    if len(spec) > MAX_SPEC_CHARACTERS:
        raise CorruptFrame(f"a boundary's structure has {len(spec)} characters, more than {MAX_SPEC_CHARACTERS}")
    decoder = _Decoder(tensors)
    try:
        decoded = decoder.decode(json.loads(spec))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptFrame(f"a boundary's structure is malformed: {error!r}") from None
    if len(decoder.used) != len(tensors):
        raise CorruptFrame(f"{len(tensors)} tensors came, {len(decoder.used)} have a place in the structure")
    if type(decoded) is not list or len(decoded) != 2 or type(decoded[1]) is not list:
        raise CorruptFrame("a boundary's structure is not a value and a list of dicts")
    value, dicts = decoded
    if not all(type(item) is dict for item in dicts):
        raise CorruptFrame("a boundary's structure is not a value and a list of dicts")
    return Boundary(value, tuple(dicts))


def _encode(node: Any, arrays: dict[int, tuple[int, mx.array]]) -> Any:
    if node is None or type(node) in (bool, int, float, str):
        return {"s": node}
    if isinstance(node, mx.array):
        index, _ = arrays.setdefault(id(node), (len(arrays), node))
        return {"a": [index, dtype_name(node), list(node.shape)]}
    if isinstance(node, Blank):
        return {"z": [node.dtype, list(node.shape)]}
    if type(node) in (tuple, list):
        return {"t" if type(node) is tuple else "l": [_encode(item, arrays) for item in node]}
    if type(node) is dict and all(type(key) is str for key in node):
        return {"d": {key: _encode(item, arrays) for key, item in node.items()}}
    if is_carrier(node):
        fields = {key: _encode(item, arrays) for key, item in vars(node).items()}
        return {"o": [type(node).__module__, type(node).__qualname__, fields]}
    raise CheckpointError(
        f"an activation of type {type(node).__module__}.{type(node).__qualname__} cannot cross to another stage",
        hint="run this model on one node",
    )


class _Decoder:
    """Rebuilds one tree; remembers which tensors found their place."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tensors
        self.used: dict[int, mx.array] = {}

    def decode(self, spec: Any) -> Any:
        ((form, body),) = spec.items()
        if form == "s" and (body is None or type(body) in (bool, int, float, str)):
            return body
        if form == "a":
            return self._array(*body)
        if form == "z":
            dtype, shape = body
            check_header(dtype, shape)
            return Blank(dtype, tuple(shape))
        if form in ("t", "l") and type(body) is list:
            items = [self.decode(item) for item in body]
            return tuple(items) if form == "t" else items
        if form == "d":
            return {key: self.decode(item) for key, item in body.items()}
        if form == "o":
            return self._carrier(*body)
        raise CorruptFrame(f"a boundary's structure has an unknown form {form!r}")

    def _array(self, index: int, dtype: str, shape: list[int]) -> mx.array:
        if type(index) is not int or not 0 <= index < len(self._tensors):
            raise CorruptFrame(f"a boundary's structure names tensor {index!r} of {len(self._tensors)}")
        if index not in self.used:
            tensor = self._tensors[index]
            if (tensor.dtype, tuple(tensor.shape)) != ("uint8", (len(tensor.data),)):
                raise CorruptFrame(f"tensor {index} is {tensor.dtype} {tuple(tensor.shape)}, not the bytes of an array")
            self.used[index] = array_from_bytes(dtype, shape, tensor.data)
        return self.used[index]

    def _carrier(self, module: str, name: str, fields: dict[str, Any]) -> Any:
        """Only classes of model modules that this process has loaded already; nothing is imported, no code runs."""
        cls = getattr(sys.modules.get(module), name, None) if module.startswith("mlx_lm.models.") else None
        if not isinstance(cls, type) or cls.__module__ != module:
            raise CorruptFrame(f"{module}.{name} is no class of a loaded model")
        carrier: Any = object.__new__(cls)
        if not is_carrier(carrier):
            raise CorruptFrame(f"{module}.{name} does not carry activations")
        carrier.__dict__.update({key: self.decode(item) for key, item in fields.items()})
        return carrier
