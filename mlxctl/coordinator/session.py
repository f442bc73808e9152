"""One request on its way through the engine: what exists, what the stages were given. Used by the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlxctl.facts import CACHE_STEP_TOKENS
from mlxctl.request import GenerationRequest
from mlxctl.wire.sampling import Wanted


@dataclass(slots=True, eq=False)
class Session:
    """Prompt, answer so far, and how much of both the caches `handle` hold; in a lane they are a row of the lane's."""

    id: int
    request: GenerationRequest
    handle: int = 0
    drawn: list[int] = field(default_factory=list)  # the stop token included
    given: int = 0
    cached: int = 0  # of `given`, those that were not computed for this request
    is_awaited: bool = False  # another request waits to share this one's prompt
    is_over: bool = False
    is_broken: bool = False  # its caches cannot be trusted: a stage failed

    @property
    def prompt_left(self) -> int:
        """Tokens of the prompt to compute before the first token can be drawn; the last one goes with the draw."""
        return len(self.request.prompt) - 1 - self.given

    @property
    def prompt_computed(self) -> int:
        """Tokens of the prompt that are computed for this request, before and from now on."""
        return len(self.request.prompt) - 1 - self.cached

    @property
    def charge_tokens(self) -> int:
        """Tokens of cache that must be there for this request to finish."""
        return rounded(len(self.request.prompt) + self.request.max_tokens)

    @property
    def held_tokens(self) -> tuple[int, ...]:
        """The tokens that the caches hold, as far as they are known here."""
        return (*self.request.prompt, *self.drawn)[: self.given]

    @property
    def can_run_ahead(self) -> bool:
        """Whether another token will be wanted after the one being drawn, unless that one ends the answer, and can be
        drawn without knowing that one here.
        """
        draws = self.given - len(self.request.prompt) + 1
        return draws < self.request.max_tokens and not self.is_over and not self.request.sampling.has_penalties

    def take_chunk(self, limit: int) -> tuple[int, ...]:
        """The next tokens of the prompt to compute, counted as given. The prompt's last one stays for the draw, so that
        no other token touches the head. No chunk crosses a multiple of the caches' step but from one: they grow there.
        """
        count = min(limit, self.prompt_left)
        beyond = self.given % CACHE_STEP_TOKENS
        if beyond and beyond + count > CACHE_STEP_TOKENS:
            count = CACHE_STEP_TOKENS - beyond
        chunk = self.request.prompt[self.given : self.given + count]
        self.given += len(chunk)
        return chunk

    def take_token(self) -> int:
        """The one token that the next draw follows, counted as given."""
        self.given += 1
        return self.drawn[-1] if self.drawn else self.request.prompt[-1]

    def run_ahead(self) -> None:
        """Count as given the token that is being drawn."""
        self.given += 1

    @property
    def recent(self) -> tuple[int, ...]:
        """The tokens that penalties look at."""
        return (*self.request.prompt, *self.drawn)[-self.request.sampling.repetition_context :]


def wanted(sessions: Sequence[Session]) -> Wanted:
    """How the next token of each of `sessions` is to be drawn; ask after `take_token` or `run_ahead`."""
    samplings = tuple(session.request.sampling for session in sessions)
    positions = tuple(session.given for session in sessions)
    if all(sampling.is_plain for sampling in samplings):
        return Wanted((), positions)
    if not any(sampling.has_penalties for sampling in samplings):
        return Wanted(samplings, positions)
    return Wanted(samplings, positions, tuple(session.recent for session in sessions))


def rounded(tokens: int) -> int:
    """What a cache allocates for `tokens`."""
    return -(-tokens // CACHE_STEP_TOKENS) * CACHE_STEP_TOKENS
