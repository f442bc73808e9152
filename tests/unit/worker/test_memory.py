"""MLX is held to what was planned for it."""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import pytest

from mlxctl.plan import memory as planned
from mlxctl.worker.memory import FREED_SHARE, PROCESS_BYTES, hold_to

pytestmark = pytest.mark.unit

GIB = 1 << 30


@pytest.fixture(autouse=True)
def limits_as_before() -> Iterator[None]:
    cache, memory = mx.set_cache_limit(0), mx.set_memory_limit(0)
    mx.set_cache_limit(cache)
    mx.set_memory_limit(memory)
    yield
    mx.set_cache_limit(cache)
    mx.set_memory_limit(memory)


def test_mlx_may_fill_the_budget_but_for_the_process_and_keep_a_part_of_it() -> None:
    hold_to(4 * GIB)
    assert mx.set_memory_limit(0) == 4 * GIB - PROCESS_BYTES
    assert mx.set_cache_limit(0) == 4 * GIB // FREED_SHARE


def test_a_budget_smaller_than_a_process_is_no_error() -> None:
    hold_to(PROCESS_BYTES // 2)
    assert mx.set_memory_limit(0) == 0


def test_what_mlx_keeps_and_the_process_takes_is_in_the_plan() -> None:
    assert PROCESS_BYTES == planned.PROCESS_BYTES
    for working in (0, 4 * GIB):
        need = planned.StageBytes(weights=GIB, kv=0, step=working, copies=0, frames=0, logits=0)
        assert need.total // FREED_SHARE + PROCESS_BYTES <= need.headroom
