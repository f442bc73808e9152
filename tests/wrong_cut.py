"""An architecture that no cut can tell from a sound one and that every cut makes wrong: for benches that must see it.

Its layers differ from the canary's in that each shifts its output by what the layer before left behind in the
process, past every array that a cut could hand on. Processes know it as mlx_lm.models.wrong_cut, by `environment`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.qwen3 import Model as Canary
from mlx_lm.models.qwen3 import ModelArgs as ModelArgs
from mlx_lm.models.qwen3 import TransformerBlock

from mlxctl.canary import MODEL_DIR

NAME = "wrong_cut"
_FINDER = f"""
import importlib.abc, importlib.util, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "mlx_lm.models.{NAME}":
            return importlib.util.spec_from_file_location(name, {__file__!r})

sys.meta_path.insert(0, Finder())
"""


class LeaningBlock(TransformerBlock):  # type: ignore[misc]
    """A layer that reads what the one before it has left."""

    index = 0
    left_behind = 0

    def __call__(self, x: Any, mask: Any = None, cache: Any = None) -> Any:
        shift, LeaningBlock.left_behind = LeaningBlock.left_behind, self.index
        return mx.roll(super().__call__(x, mask, cache), shift, -1)


class Model(Canary):  # type: ignore[misc]
    """The canary with other layers."""

    def __init__(self, args: Any) -> None:
        super().__init__(args)
        for index, layer in enumerate(self.model.layers):
            layer.__class__ = LeaningBlock
            layer.index = index


def write_checkpoint(folder: Path) -> Path:
    """The canary's files under the other architecture."""
    model = Path(shutil.copytree(MODEL_DIR, folder / "model"))
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "model_type": NAME}), encoding="utf-8")
    return model


def environment(folder: Path) -> Mapping[str, str]:
    """What makes Python processes find the architecture; `folder` keeps a file for it."""
    place = folder / "site"
    place.mkdir()
    (place / "sitecustomize.py").write_text(_FINDER, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH"))))}
