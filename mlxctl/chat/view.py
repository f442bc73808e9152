"""An answer on the terminal while it comes: Markdown drawn as it grows, or plain text. Used by the REPL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.spinner import Spinner
from rich.text import Text

from mlxctl.chat.blocks import BlockSplitter
from mlxctl.chat.events import Chunk
from mlxctl.chat.visible import visible

_REFRESH_PER_S = 12

Part = Literal["thinking", "answer"]


class View(ABC):
    """A context manager around one answer; when it is left, everything that came is on the screen for good."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._part: Part | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def show(self, chunk: Chunk) -> None:
        """Thinking and text of `chunk`, without the line ends before the first word of either."""
        pieces: tuple[tuple[Part, str], ...] = (("thinking", chunk.reasoning), ("answer", chunk.text))
        for part, piece in pieces:
            shown = visible(piece) if part == self._part else visible(piece).lstrip("\n")
            if not shown:
                continue
            if part != self._part:
                self._end()
                self._part = part
                self._begin(part)
            self._add(part, shown)

    @abstractmethod
    def _begin(self, part: Part) -> None: ...

    @abstractmethod
    def _add(self, part: Part, text: str) -> None: ...

    @abstractmethod
    def _end(self) -> None:
        """Complete what was begun last; nothing if nothing was."""


class PlainView(View):
    """Text as it comes, nothing ever redrawn: for NO_COLOR and terminals that cannot."""

    def _begin(self, part: Part) -> None:
        self._last = ""
        if part == "thinking":
            self._add(part, "(thinking) ")

    def _add(self, part: Part, text: str) -> None:
        self._last = text
        self._out.out(text, end="", highlight=False)

    def _end(self) -> None:
        if self._part is not None:
            self._out.out("" if self._last.endswith("\n") else "\n", end="")


class MarkdownView(View):
    """Thinking dimmed; of the answer, finished blocks are printed once and only the open one is drawn again."""

    def __init__(self, out: Console) -> None:
        super().__init__(out)
        self._live = Live(Spinner("dots", style="dim"), console=out, refresh_per_second=_REFRESH_PER_S, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def _begin(self, part: Part) -> None:
        self._blocks = BlockSplitter()
        self._printed_blocks = 0
        self._live.update(Text(""))
        self._held = ""
        if part == "thinking":
            self._live.stop()
        else:
            self._live.start()

    def _add(self, part: Part, text: str) -> None:
        if part == "thinking":
            thought = (self._held + text).rstrip("\n")
            self._held = (self._held + text)[len(thought) :]  # line ends after the last word are not shown
            self._out.print(Text(thought, style="dim italic"), end="", soft_wrap=True)
            return
        for block in self._blocks.feed(text):
            self._live.update(Text(""))
            self._print_block(block)
        self._live.update(_Block(self._blocks.rest, is_open=True))

    def _end(self) -> None:
        self._live.stop()
        if self._part == "thinking":
            self._out.print("\n")
        elif self._part == "answer":
            self._print_block(self._blocks.rest)

    def _print_block(self, block: str) -> None:
        if not block.strip():
            return
        if self._printed_blocks:
            self._out.print()
        self._out.print(_Block(block, is_open=False), end="")
        self._printed_blocks += 1


class _Block:
    """A Markdown block without rich's blank lines around it; of an open one the last lines that the terminal can hold.

    What has scrolled out of the terminal cannot be drawn again.
    """

    def __init__(self, text: str, *, is_open: bool) -> None:
        self._markdown = Markdown(text, code_theme="ansi_dark", hyperlinks=False)
        self._is_open = is_open

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [_without_end_blanks(line) for line in console.render_lines(self._markdown, options, pad=False)]
        inked = [i for i, line in enumerate(lines) if line]
        lines = lines[inked[0] : inked[-1] + 1] if inked else []
        if self._is_open:
            lines = lines[-max(options.size.height - 2, 1) :]
        for line in lines:
            yield from line
            yield Segment.line()


def _without_end_blanks(line: list[Segment]) -> list[Segment]:
    """`line` without the blanks that rich pads it with, which would come along when text is copied."""
    kept = list(line)
    while kept and not kept[-1].text.rstrip():
        kept.pop()
    return [*kept[:-1], Segment(kept[-1].text.rstrip(), kept[-1].style)] if kept else []
