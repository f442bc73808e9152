"""Stop strings and markers in text that arrives in pieces, against definitions that see the whole text."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.api.matching import Channel, Splitter, StopMatcher, find_first, undecided_from

pytestmark = pytest.mark.unit

# Few letters, so that stop strings occur, overlap and nearly occur.
TEXT = st.text(alphabet="ab\né", max_size=24)
STOPS = st.lists(st.text(alphabet="ab\né", min_size=1, max_size=5), max_size=4)


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    bounds = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:stop] for start, stop in itertools.pairwise(bounds)]


CUTS = st.lists(st.integers(0, 100), max_size=8)


def naive_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """Read character by character; as soon as a stop string is complete, everything before the longest such."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


@given(TEXT, STOPS, CUTS)
def test_stopping_in_pieces_is_stopping_in_the_whole_text(text: str, stops: list[str], cuts: list[int]) -> None:
    matcher = StopMatcher(stops)
    passed = "".join([matcher.feed(piece) for piece in pieces_of(text, cuts)]) + matcher.flush()
    assert (passed, matcher.stopped) == naive_stop(text, stops)


@given(TEXT, STOPS, CUTS)
def test_nothing_of_a_stop_string_is_ever_passed_on(text: str, stops: list[str], cuts: list[int]) -> None:
    expected, _ = naive_stop(text, stops)
    matcher = StopMatcher(stops)
    passed = ""
    for piece in pieces_of(text, cuts):
        passed += matcher.feed(piece)
        assert expected.startswith(passed)


@given(TEXT, STOPS)
def test_text_is_held_back_only_while_it_could_become_a_stop_string(text: str, stops: list[str]) -> None:
    start = undecided_from(text, stops)
    tail = text[start:]
    assert not tail or any(stop.startswith(tail) and stop != tail for stop in stops) or tail in stops
    longer = [text[i:] for i in range(start)]
    assert not any(stop != candidate and stop.startswith(candidate) for stop in stops for candidate in longer)


def test_of_two_stop_strings_complete_at_once_the_longer_counts() -> None:
    match = find_first("xab", ["b", "ab"])
    assert match is not None and match.start == 1


def test_a_stop_string_that_is_complete_first_wins_over_one_that_began_earlier() -> None:
    matcher = StopMatcher(["abc", "b"])
    assert matcher.feed("xab") == "xa" and matcher.stopped


TRANSITIONS = {
    "normal": [("<t>", "reasoning"), ("<c>", "tool")],
    "reasoning": [("</t>", "normal"), ("<c>", "tool")],
    "tool": [("</c>", "normal")],
}
MARKED = st.lists(st.sampled_from(["<t>", "</t>", "<c>", "</c>", "<", "t>", "/", "a", "\n"]), max_size=12).map("".join)


def naive_split(text: str) -> list[tuple[str, str]]:
    """The text of each state passed, reading character by character."""
    state, done, run = "normal", [], ""
    for character in text:
        run += character
        for marker, target in TRANSITIONS[state]:
            if run.endswith(marker):
                done.append((state, run.removesuffix(marker)))
                state, run = target, ""
                break
    return [*done, (state, run)]


@given(MARKED, CUTS)
def test_splitting_in_pieces_is_splitting_the_whole_text(text: str, cuts: list[int]) -> None:
    splitter = Splitter(TRANSITIONS, "normal")
    runs = [("normal", "")]
    segments = [segment for piece in pieces_of(text, cuts) for segment in splitter.feed(piece)]
    for segment in [*segments, splitter.flush()]:
        runs[-1] = (segment.state, runs[-1][1] + segment.text)
        if segment.next_state is not None:
            runs.append((segment.next_state, ""))
    assert runs == naive_split(text)


@given(TEXT, CUTS)
def test_a_channel_without_markers_and_stops_passes_everything_on(text: str, cuts: list[int]) -> None:
    channel = Channel()
    assert "".join([channel.feed(piece) for piece in pieces_of(text, cuts)]) + channel.finish() == text


@given(TEXT, CUTS, TEXT, CUTS)
def test_newlines_around_a_marker_are_dropped(before: str, cuts: list[int], after: str, more_cuts: list[int]) -> None:
    channel = Channel()
    first = "".join([channel.feed(piece) for piece in pieces_of(before, cuts)]) + channel.pause()
    second = "".join([channel.feed(piece) for piece in pieces_of(after, more_cuts)]) + channel.finish()
    assert (first, second) == (before.rstrip("\n"), after.lstrip("\n"))


def test_newlines_before_a_stop_string_belong_to_the_text() -> None:
    channel = Channel(["END"])
    assert channel.feed("text\n\nEND") + channel.finish() == "text\n\n"
