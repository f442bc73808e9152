"""Holds MLX to the stage's share of memory. Called by the runner before it loads."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

FREED_SHARE = 16  # of the budget, one part may lie in MLX's cache of freed buffers


def hold_to(budget_bytes: int) -> None:
    """Bound what MLX keeps of freed buffers, and on Metal wire what the stage uses, so that it is never paged out.

    Wiring is unverified on a Mac.
    """
    mx.set_cache_limit(budget_bytes // FREED_SHARE)
    if mx.metal.is_available():
        device: dict[str, Any] = mx.device_info()
        mx.set_wired_limit(min(budget_bytes, device["max_recommended_working_set_size"]))
