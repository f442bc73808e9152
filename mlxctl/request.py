"""What a client asks the engine for, as plain values. Shared by api, coordinator, wire and sharding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

FinishReason = Literal["stop", "length"]
Priority = Literal["interactive", "batch"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one sequence's next token is drawn, as mlx-lm draws it. Temperature 0 is greedy; all else is off by default.

    The draw at position p (tokens before it) depends on (`seed`, p) alone, so a replay draws the same token.
    First `logit_bias` (token id, amount) is added to the logits, then the three penalties are taken for the last
    `repetition_context` tokens, those of the prompt included; then top_p, min_p, XTC, top_k filter; then temperature.
    XTC never takes away a token in `xtc_kept_ids`.
    `top_logprobs`: None for no log-probabilities, else how many of the likeliest tokens come beside the one drawn.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    xtc_kept_ids: tuple[int, ...] = ()
    repetition_penalty: float = 1.0
    repetition_context: int = 20
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int | None = None

    @property
    def has_penalties(self) -> bool:
        """Whether drawing looks at the tokens before."""
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1)

    @property
    def changes_logits(self) -> bool:
        """Whether bias or penalties come before anything else."""
        return bool(self.logit_bias) or self.has_penalties

    @property
    def is_plain(self) -> bool:
        """Whether it takes the likeliest token of the logits as they are, and nothing more is asked."""
        return self.temperature == 0 and self.top_logprobs is None and not self.changes_logits


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """`prompt` token ids (never empty), at most `max_tokens` new ones, ended early by any id in `stop_ids`.

    `timeout_s` counts from submission, waiting included; "batch" waits while "interactive" has work.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop_ids: frozenset[int] = frozenset()
    timeout_s: float | None = None
    priority: Priority = "interactive"


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural log-probability of the drawn `token` and, likeliest first, of the `top` ones as (token, logprob).

    Of the logits after bias and penalties, before filters and temperature.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Generation(Protocol):
    """One running request. Iterating yields the tokens that have arrived since the last turn, in order, once each.

    A stop id is not yielded. Leaving the iteration early must be followed by `cancel()`, which frees the sequence on
    every stage; cancelling a finished generation does nothing. A failure (StageLost, TimedOut …) is raised from the
    iteration after the tokens that came before it.
    """

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None while it runs."""

    @property
    def logprobs(self) -> Sequence[TokenLogprob]:
        """One record for each token yielded so far, in order; none unless `top_logprobs` asks for them."""

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that were not computed again; known once the first token has come."""

    def __aiter__(self) -> AsyncIterator[list[int]]: ...

    def cancel(self) -> None: ...


class Engine(Protocol):
    """What the API needs of the coordinator."""

    def submit(self, request: GenerationRequest) -> Generation:
        """Queue `request`. Raises Overloaded, Degraded, ContextLengthExceeded."""
