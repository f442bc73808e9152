"""Caches of sequences that have ended, held for prompts that begin alike, within the planned KV budget. Pure; called by
the scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mlxctl.coordinator.lanes import LaneBook
from mlxctl.coordinator.limits import Limits
from mlxctl.coordinator.prefix_cache import Held, PrefixCache
from mlxctl.coordinator.session import Session, rounded
from mlxctl.coordinator.step_times import StepTimes

LEAST_SHARED_TOKENS = 16  # fewer are not worth a copy, unless computing them takes longer
COPY_S = 0.02  # of a few tokens, layer by layer


class Holdings:
    """Held caches of one pipeline. `charge_tokens` tells what running sessions may come to need, in tokens of cache."""

    def __init__(self, limits: Limits, book: LaneBook, times: StepTimes, charge_tokens: Callable[[], int]) -> None:
        self.prefixes = PrefixCache(limits.trim_limit)
        self._limits = limits
        self._book = book
        self._times = times
        self._charge_tokens = charge_tokens

    def shared_tokens(self, body: tuple[int, ...]) -> int:
        """How many tokens of a prompt need not be computed."""
        found = self.prefixes.find(body)
        return found[1] if found is not None else 0

    def begin(self, session: Session) -> None:
        """Give `session` caches: a copy of what is held of its prompt's beginning, or empty ones."""
        found = self.prefixes.find(session.request.prompt[:-1])
        if found is not None and self._is_worth_a_copy(found[1]):
            held, session.given = found
            session.cached = session.given
            session.handle = self._book.copy(held.handle, session.given)
        else:
            session.handle = self._book.new()

    def give_up(self, handle: int, session: Session) -> None:
        """The session needs its caches no longer: hold or free them."""
        if self.is_worth_holding(session):
            self.hold(handle, session)
        else:
            self._book.free(handle)

    def is_worth_holding(self, session: Session) -> bool:
        """Not if it is small, broken, or has run ahead by tokens that it cannot forget."""
        is_exact = session.given == len(session.held_tokens)
        return (
            session.given >= LEAST_SHARED_TOKENS
            and not session.is_broken
            and (is_exact or session.given <= self._limits.trim_limit)
        )

    def hold(self, handle: int, session: Session) -> None:
        """Hold the caches `handle` of what `session` was given."""
        tokens = session.held_tokens
        for useless in self.prefixes.add(Held(handle, tokens, session.given - len(tokens))):
            self._book.free(useless.handle)
        self.settle()

    def hold_copy(self, session: Session) -> None:
        """Hold a copy of the prompt that `session` has just been given, if it can be cut and there is room."""
        if session.given <= self._limits.trim_limit and self._has_room(session.given):
            self.hold(self._book.copy(session.handle, session.given), session)

    def settle(self) -> None:
        """Free those not used for longest that there is no room for any more."""
        self._keep_within(self._free_tokens())

    def forget(self, share: float) -> None:
        """Free the caches of at least `share` of all held tokens."""
        self._keep_within(math.floor(self._held_tokens() * (1 - share)))

    def _is_worth_a_copy(self, tokens: int) -> bool:
        return tokens >= LEAST_SHARED_TOKENS or self._times.prompt_s(tokens) > COPY_S

    def _has_room(self, tokens: int) -> bool:
        """Whether caches of so many more tokens fit beside all that runs, once others have been given up for them."""
        room = self._free_tokens() - rounded(tokens)
        if room >= 0:
            self._keep_within(room)
        return room >= 0

    def _free_tokens(self) -> int:
        return self._limits.cache_tokens - self._charge_tokens()

    def _held_tokens(self) -> int:
        return sum(held.cache_tokens for held in self.prefixes)

    def _keep_within(self, tokens: int) -> None:
        held = self._held_tokens()
        while held > tokens and (oldest := self.prefixes.oldest()) is not None:
            self.prefixes.remove(oldest)
            self._book.free(oldest.handle)
            held -= oldest.cache_tokens
