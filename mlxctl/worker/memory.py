"""Holds MLX to the stage's share of memory. Called by the runner before it loads."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

FREED_SHARE = 40  # of the budget, one part may lie in MLX's cache of freed buffers: less than is planned as slack
PROCESS_BYTES = 256 << 20  # of the budget, for all that is not MLX's, as planned


def hold_to(budget_bytes: int) -> None:
    """Bound what MLX keeps of freed buffers, and how far it may run ahead of the device: at the limit it waits for what
    runs, and on GPUs gives freed buffers back. On Metal wire what the stage uses, so that it is never paged out.

    Wiring is unverified on a Mac.
    """
    mx.set_cache_limit(budget_bytes // FREED_SHARE)
    mx.set_memory_limit(max(budget_bytes - PROCESS_BYTES, 0))
    if mx.metal.is_available():
        device: dict[str, Any] = mx.device_info()
        mx.set_wired_limit(min(budget_bytes, device["max_recommended_working_set_size"]))
