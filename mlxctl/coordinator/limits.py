"""What the stages of a pipeline can do, as the plan and the workers say. Read by the scheduler and its parts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlxctl.coordinator.session import rounded


@dataclass(frozen=True, slots=True)
class Limits:
    """What the stages can do. `concurrency` sequences of `context` tokens fit; `queue` more may wait.

    Without `batchable` every sequence has a lane of its own; `trim_limit`: see mlxctl/sharding/caches.py.
    """

    stages: int
    context: int
    concurrency: int
    queue: int
    batchable: bool = True
    trim_limit: float = math.inf
    chunk_tokens: int = 256

    @property
    def cache_tokens(self) -> int:
        """Tokens of cache that the plan has room for."""
        return self.concurrency * rounded(self.context)
