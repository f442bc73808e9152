"""The built-in model: a tiny Qwen3-architecture chat model. `model: canary` in a profile and the tests mean it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MODEL_DIR: Final[Path] = Path(__file__).parent / "model"
"""8 layers, 6.8 M parameters: 8-bit weights (uint32) in groups of 64, scales, biases and norms float32; tokenizer."""
