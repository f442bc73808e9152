"""Running layers [start, stop) of any mlx-lm model: load, forward, boundary codec, sampling. Used by the worker."""

from mlxctl.sharding.arrays import array_bytes, array_from_bytes
from mlxctl.sharding.boundary import Boundary, Tensor, decode_boundary, encode_boundary
from mlxctl.sharding.caches import ShardCache
from mlxctl.sharding.layer_map import LayerMap
from mlxctl.sharding.load import LoadProgress, load_model
from mlxctl.sharding.model import LoadedModel
from mlxctl.sharding.safetensors import TensorHeader, safetensors_header
from mlxctl.sharding.sampling import Draw, sample
from mlxctl.sharding.shard import Output, Shard
from mlxctl.sharding.support import unsupported_here

__all__ = [
    "Boundary",
    "Draw",
    "LayerMap",
    "LoadProgress",
    "LoadedModel",
    "Output",
    "Shard",
    "ShardCache",
    "Tensor",
    "TensorHeader",
    "array_bytes",
    "array_from_bytes",
    "decode_boundary",
    "encode_boundary",
    "load_model",
    "safetensors_header",
    "sample",
    "unsupported_here",
]
