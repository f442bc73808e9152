"""Finding strings in text that arrives in pieces: stop strings and output markers. Pure; used by api.answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Match:
    """text[start:end] is needles[index]."""

    start: int
    end: int
    index: int


def find_first(text: str, needles: Sequence[str]) -> Match | None:
    """The needle that is complete first, reading character by character; of several at once the longest."""
    best: Match | None = None
    for index, needle in enumerate(needles):
        start = text.find(needle)
        if start >= 0:
            match = Match(start, start + len(needle), index)
            if best is None or (match.end, match.start) < (best.end, best.start):
                best = match
    return best


def undecided_from(text: str, needles: Sequence[str]) -> int:
    """Where the longest tail of `text` begins that could still grow into a needle; len(text) if there is none."""
    longest = max(map(len, needles), default=0)
    for start in range(max(0, len(text) - longest + 1), len(text)):
        tail = text[start:]
        if any(needle.startswith(tail) for needle in needles):
            return start
    return len(text)


class StopMatcher:
    """Passes text on until one of `stops` is complete; of a stop string nothing is ever passed on."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """What of the text so far is certain to be no part of a stop string."""
        if self.stopped or not self._stops:
            return "" if self.stopped else text
        text = self._held + text
        match = find_first(text, self._stops)
        if match is not None:
            self.stopped, self._held = True, ""
            return text[: match.start]
        cut = undecided_from(text, self._stops)
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """The text held back: no more comes that could complete a stop string."""
        text, self._held = self._held, ""
        return text


@dataclass(frozen=True, slots=True)
class Segment:
    """Text of one state of the output; `marker` ended the state and `next_state` follows, None while it goes on."""

    state: str
    text: str
    marker: str | None = None
    next_state: str | None = None


class Splitter:
    """Takes the output apart at its markers (thinking, tool calls), following `transitions` from `state`."""

    def __init__(self, transitions: Mapping[str, Sequence[tuple[str, str]]], state: str) -> None:
        self._edges = {
            name: ([marker for marker, _ in edges], [target for _, target in edges])
            for name, edges in transitions.items()
        }
        self._state = state
        self._held = ""

    def feed(self, text: str) -> Iterator[Segment]:
        """The segments that are certain so far."""
        text = self._held + text
        while True:
            markers, targets = self._edges.get(self._state, ([], []))
            match = find_first(text, markers)
            if match is None:
                break
            state, self._state = self._state, targets[match.index]
            rest, text = text[: match.start], text[match.end :]
            yield Segment(state, rest, markers[match.index], self._state)
        cut = undecided_from(text, markers)
        self._held = text[cut:]
        yield Segment(self._state, text[:cut])

    def flush(self) -> Segment:
        """The text held back: no more comes that could complete a marker."""
        text, self._held = self._held, ""
        return Segment(self._state, text)


class Channel:
    """One kind of text (answer or thinking), ended by a stop string, without the newlines that only set off markers."""

    def __init__(self, stops: Sequence[str] = (), *, after_marker: bool = False) -> None:
        self._stop = StopMatcher(stops)
        self._after_marker = after_marker
        self._newlines = ""

    @property
    def stopped(self) -> bool:
        """A stop string is complete."""
        return self._stop.stopped

    def feed(self, text: str) -> str:
        """What of the text so far is certain; trailing newlines wait for what follows them."""
        if self._after_marker:
            text = text.lstrip("\n")
            self._after_marker = not text
        return self._without_trailing_newlines(self._stop.feed(text))

    def pause(self) -> str:
        """What was held back, now that a marker follows: newlines before and after it are dropped."""
        text = self._without_trailing_newlines(self._stop.flush())
        self._newlines, self._after_marker = "", True
        return text

    def finish(self) -> str:
        """What was held back, now that nothing follows."""
        text = self._without_trailing_newlines(self._stop.flush()) + self._newlines
        self._newlines = ""
        return text

    def _without_trailing_newlines(self, text: str) -> str:
        text = self._newlines + text
        kept = text.rstrip("\n")
        self._newlines = text[len(kept) :]
        return kept
