"""What a client asks the engine for, as plain values. Shared by api, coordinator, wire and sharding."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one sequence's next token is drawn. Temperature 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are off.

    The draw at position p (tokens before it) depends on (`seed`, p) alone, so a replay draws the same token.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """`prompt` token ids (never empty), at most `max_tokens` new ones, ended early by any id in `stop_ids`."""

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop_ids: frozenset[int] = frozenset()


class Generation(Protocol):
    """One running request. Iterating yields the tokens that have arrived since the last turn, in order, once each.

    A stop id is not yielded. Leaving the iteration early must be followed by `cancel()`, which frees the sequence on
    every stage; cancelling a finished generation does nothing. A failure (StageLost, TimedOut …) is raised from the
    iteration after the tokens that came before it.
    """

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None while it runs."""

    def __aiter__(self) -> AsyncIterator[list[int]]: ...

    def cancel(self) -> None: ...


class Engine(Protocol):
    """What the API needs of the coordinator."""

    def submit(self, request: GenerationRequest) -> Generation:
        """Queue `request`. Raises Overloaded, Degraded, ContextLengthExceeded."""
