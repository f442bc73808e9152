"""A model on disk, known without reading a weight: where it lies, bytes per layer, KV growth, legal cuts."""

from mlxctl.checkpoint.files import HubCommit, hub_commit
from mlxctl.checkpoint.model_facts import read_model_facts
from mlxctl.checkpoint.resolve import resolve_model
from mlxctl.checkpoint.weights import ModelWeights, model_files, open_weights

__all__ = [
    "HubCommit",
    "ModelWeights",
    "hub_commit",
    "model_files",
    "open_weights",
    "read_model_facts",
    "resolve_model",
]
