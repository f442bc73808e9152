"""What lazy arrays hang on, read off MLX's exported graph. Called by the trace and by checkpoint facts."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from itertools import islice

import mlx.core as mx

MAX_NAMES = 1000  # a call from Python into MLX takes 1024 named arguments

_LINE = re.compile(r'^(?:\{ (\d+) \[|"(\w+)" -> \d|\d+ -> "(\w+)")', re.MULTILINE)


def dependencies(results: Mapping[str, mx.array], sources: Mapping[str, mx.array]) -> dict[str, frozenset[str]]:
    """For each of `results` the names of the `sources` that it is computed from. Names are letters and digits, all
    different; nothing is evaluated.
    """
    found: dict[str, set[str]] = {name: set() for name in results}
    for some_results in _batches(results):
        for some_sources in _batches(sources):
            graph = io.StringIO()
            mx.export_to_dot(graph, **some_results, **some_sources)
            names = tuple(some_sources)
            below = _spread(graph.getvalue(), {name: 1 << number for number, name in enumerate(names)})
            for name in some_results:
                found[name].update(_names(below.get(name, 0), names))
    return {name: frozenset(sources) for name, sources in found.items()}


def _batches(arrays: Mapping[str, mx.array]) -> Iterator[dict[str, mx.array]]:
    items = iter(arrays.items())
    while batch := dict(islice(items, MAX_NAMES // 2)):
        yield batch


def _spread(dot: str, bits: Mapping[str, int]) -> dict[str, int]:
    """The sources below each array, as bits. Lines are in order of computation, and read in that order because calls
    of one compiled function share a node: an operation's line, its inputs, its outputs, then the next operation's.
    """
    below = dict(bits)
    gathered = 0
    for operation, source, output in _LINE.findall(dot):
        if operation:
            gathered = 0
        elif source:
            gathered |= below.get(source, 0)
        else:
            below[output] = below.get(output, 0) | gathered
    return below


def _names(bits: int, sources: tuple[str, ...]) -> list[str]:
    names = []
    while bits:
        lowest = bits & -bits
        names.append(sources[lowest.bit_length() - 1])
        bits ^= lowest
    return names
