"""A model on disk, known without reading a weight: where it lies, bytes per layer, KV growth, legal cuts."""

from mlxctl.checkpoint.files import HubCommit, origin_of
from mlxctl.checkpoint.lasting_thread import beside_loop
from mlxctl.checkpoint.model_facts import read_model_facts
from mlxctl.checkpoint.resolve import resolve_model
from mlxctl.checkpoint.weights import ModelWeights, model_files, open_weights

__all__ = [
    "HubCommit",
    "ModelWeights",
    "beside_loop",
    "model_files",
    "open_weights",
    "origin_of",
    "read_model_facts",
    "resolve_model",
]
