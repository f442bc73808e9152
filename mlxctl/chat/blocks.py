"""Markdown cut into blocks while it streams: a finished block is printed once, only the open one is redrawn. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FENCE = re.compile(r"^( *)(`{3,}(?=[^`]*$)|~{3,})")
_ITEM = re.compile(r"^\s*([-*+]|\d{1,9}[.)])(\s|$)")


def split(text: str) -> tuple[list[str], str]:
    """(finished blocks, open rest); joined they are `text`. What is finished stays so whatever text follows."""
    blocks: list[str] = []
    start = position = 0
    scan = _Scan()
    for line in text.split("\n"):
        complete = position + len(line) < len(text)
        if scan.ends_before(line, complete=complete):
            blocks.append(text[start:position])
            start, scan = position, _Scan()
        if not complete:
            break
        position += len(line) + 1
        if scan.ends_with(line):
            blocks.append(text[start:position])
            start, scan = position, _Scan()
    return blocks, text[start:]


class BlockSplitter:
    """`split` for text that arrives in pieces."""

    def __init__(self) -> None:
        self.rest = ""

    def feed(self, piece: str) -> list[str]:
        """The blocks that `piece` finished; `rest` is the open one."""
        blocks, self.rest = split(self.rest + piece)
        return blocks


@dataclass(slots=True)
class _Scan:
    """What the lines of the open block have shown so far."""

    fence: str = ""
    has_content: bool = False
    is_list: bool = False
    after_blank: bool = False

    def ends_before(self, line: str, *, complete: bool) -> bool:
        """Whether `line` belongs to the next block. An incomplete line decides only what no ending could change."""
        if self.fence or not self.has_content or not line.strip():
            return False
        if not complete:
            return self.after_blank and not self.is_list and not line[0].isspace()
        if self.after_blank:
            return not self._continues(line)
        opening = _FENCE.match(line)
        return opening is not None and not self.is_list and len(opening[1]) < 4

    def ends_with(self, line: str) -> bool:
        """Take a complete line into the block. True if it is the block's last: the end of a fence outside a list."""
        if self.fence:
            return self._closes(line)
        self.after_blank = not line.strip()
        if self.after_blank:
            return False
        self.has_content = True
        opening = _FENCE.match(line)
        if opening and (self.is_list or len(opening[1]) < 4):
            self.fence = opening[2]
        elif _ITEM.match(line):
            self.is_list = True
        return False

    def _closes(self, line: str) -> bool:
        mark = line.strip()
        if len(mark) < len(self.fence) or mark.strip(self.fence[0]):
            return False
        self.fence = ""
        return not self.is_list

    def _continues(self, line: str) -> bool:
        """After a blank line: a further item or paragraph of a list, or a further line of an indented block."""
        indent = len(line) - len(line.lstrip())
        if self.is_list:
            return indent >= 2 or _ITEM.match(line) is not None
        return indent >= 4 or line.startswith("\t")
