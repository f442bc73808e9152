"""What a mistyped word may have meant: one typo away, or its beginning. Pure; used by chat and the command line."""

from __future__ import annotations

from collections.abc import Iterable

MIN_PREFIX_CHARS = 3
SHORT_CHARS = 5


def nearest(word: str, known: Iterable[str]) -> tuple[str, ...]:
    """Those of `known` that `word` begins or that begin `word`, else those within one typo, of long words two."""
    names = tuple(known)
    begun = tuple(name for name in names if _begins(word, name) or _begins(name, word))
    return begun or tuple(name for name in names if _typos(word, name) <= (1 if len(word) <= SHORT_CHARS else 2))


def _begins(start: str, whole: str) -> bool:
    return len(start) >= MIN_PREFIX_CHARS and whole.startswith(start)


def _typos(word: str, name: str) -> int:
    """Letters left out, put in, replaced or two neighbours swapped (optimal string alignment distance)."""
    rows = [list(range(len(name) + 1))]
    for i, left in enumerate(word, start=1):
        row = [i]
        for j, right in enumerate(name, start=1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (left != right))
            if i > 1 and j > 1 and left == name[j - 2] and word[i - 2] == right:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]
