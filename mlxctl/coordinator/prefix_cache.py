"""Finished sequences whose caches the stages still hold, by their tokens. Pure; the scheduler decides and frees.

A radix trie over token ids (as in SGLang's RadixAttention, arXiv 2312.07104): an edge carries a run of tokens, a node
may be the end of a held sequence. What a prompt shares with any held sequence need not be computed again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from mlxctl.coordinator.session import rounded


@dataclass(frozen=True, slots=True)
class Held:
    """Caches `handle` of all `tokens`, on every stage, and of `surplus` tokens more that nobody knows."""

    handle: int
    tokens: tuple[int, ...]
    surplus: int = 0

    @property
    def cache_tokens(self) -> int:
        """What the caches allocate, in tokens."""
        return rounded(len(self.tokens) + self.surplus)


@dataclass(slots=True)
class _Node:
    """`children` by the first token of the edge to them."""

    children: dict[int, tuple[tuple[int, ...], _Node]] = field(default_factory=dict)
    held: Held | None = None


class PrefixCache:
    """Held sequences, least recently used first. `trim_limit`: see mlxctl/sharding/caches.py."""

    def __init__(self, trim_limit: float = math.inf) -> None:
        self._trim_limit = trim_limit
        self._root = _Node()
        self._held: OrderedDict[int, Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held.values())

    def find(self, tokens: tuple[int, ...]) -> tuple[Held, int] | None:
        """The held sequence that shares most with the beginning of `tokens`, and how many tokens can be used of it.

        Caches that cannot forget are of use whole or not at all.
        """
        best: tuple[Held, int] | None = None
        node, depth = self._root, 0
        while True:
            if node.held is not None and depth:
                best = node.held, depth
            edge = node.children.get(tokens[depth]) if depth < len(tokens) else None
            if edge is None:
                break
            run, child = edge
            shared = common_length(run, tokens[depth : depth + len(run)])
            depth += shared
            node = child
            if shared < len(run):
                break
        longer = self._shortest_below(node) if depth and (best is None or best[1] < depth) else None
        if longer is not None and len(longer.tokens) <= self._trim_limit:
            best = longer, depth
        if best is not None:
            self._held.move_to_end(best[0].handle)
        return best

    def add(self, held: Held) -> list[Held]:
        """Hold `held`; returns those that it makes useless, which are held no longer."""
        node, depth, useless = self._root, 0, []
        while depth < len(held.tokens):
            if node.held is not None and len(held.tokens) <= self._trim_limit:
                useless.append(node.held)
            node, depth = self._descend(node, held.tokens, depth)
        if node.held is not None:
            useless.append(node.held)
        for other in useless:
            self.remove(other)
        self._insert(held)
        return useless

    def remove(self, held: Held) -> None:
        """Forget `held`."""
        del self._held[held.handle]
        parents: list[tuple[_Node, int]] = []
        node, depth = self._root, 0
        while depth < len(held.tokens):
            parents.append((node, held.tokens[depth]))
            run, node = node.children[held.tokens[depth]]
            depth += len(run)
        node.held = None
        while parents and node.held is None and not node.children:
            node, first = parents.pop()
            del node.children[first]

    def oldest(self) -> Held | None:
        """The one that was not used for longest."""
        return next(iter(self._held.values()), None)

    def clear(self) -> None:
        self._root = _Node()
        self._held.clear()

    def _insert(self, held: Held) -> None:
        node, depth = self._root, 0
        while depth < len(held.tokens):
            node, depth = self._descend(node, held.tokens, depth)
        node.held = held
        self._held[held.handle] = held

    def _descend(self, node: _Node, tokens: tuple[int, ...], depth: int) -> tuple[_Node, int]:
        """One edge further along `tokens`, made or split where there is none."""
        edge = node.children.get(tokens[depth])
        if edge is None:
            child = _Node()
            node.children[tokens[depth]] = (tokens[depth:], child)
            return child, len(tokens)
        run, child = edge
        shared = common_length(run, tokens[depth : depth + len(run)])
        if shared < len(run):
            middle = _Node({run[shared]: (run[shared:], child)})
            node.children[run[0]] = (run[:shared], middle)
            child = middle
        return child, depth + shared

    def _shortest_below(self, node: _Node) -> Held | None:
        """The shortest sequence held at or below `node`: the least to copy."""
        found = [node.held] if node.held is not None else []
        stack = [child for _, child in node.children.values()]
        while stack:
            below = stack.pop()
            if below.held is not None:
                found.append(below.held)
            else:
                stack.extend(child for _, child in below.children.values())
        return min(found, key=lambda held: len(held.tokens), default=None)


def common_length(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Length of the common beginning. By halves, so that comparing is the interpreter's own work, not a loop."""
    same, most = 0, min(len(one), len(other))
    while same < most:
        middle = (same + most + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same
