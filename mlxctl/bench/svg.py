"""Small plots as SVG text: axes, lines, intervals, bars. Pure; colours are classes that the page's style fills in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 560.0
HEIGHT = 300.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 18.0, 14.0, 44.0
CHARACTER = 6.2  # of 11 px text, on average

Point = tuple[float, float]


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high` and one beyond."""
    span = (high - low) or abs(high) or 1.0
    raw = span / about
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw)
    first = math.floor(low / step)
    return [round((first + index) * step, 12) for index in range(math.ceil(high / step - first) + 1)]


def label(value: float) -> str:
    """A tick's text: 0.25, 10, 4k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


@dataclass(slots=True)
class Plot:
    """One plot. `x_at` places: None for numbers (log2 where `x_log`), else the names of places side by side."""

    x_title: str
    y_title: str
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)
    x_log: bool = False
    x_ticks: Sequence[tuple[float, str]] | None = None
    height: float = HEIGHT
    left: float = LEFT
    y_axis: bool = True
    y_words: Callable[[float], str] = label
    _parts: list[str] = field(default_factory=list)
    _y_ticks: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.y_axis:
            self._y_ticks = nice_ticks(*self.y_range)
            self.y_range = (self._y_ticks[0], self._y_ticks[-1])

    def x(self, value: float) -> float:
        low, high = (self._scaled(each) for each in self.x_range)
        share = (self._scaled(value) - low) / ((high - low) or 1.0)
        return self.left + share * (WIDTH - self.left - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM)

    def _scaled(self, value: float) -> float:
        return math.log2(max(value, 1e-9)) if self.x_log else value

    def line(self, points: Sequence[Point], colour: str, *, dashed: bool = False) -> None:
        if len(points) > 1:
            path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
            self._parts.append(f'<polyline class="line {colour}{" dashed" if dashed else ""}" points="{path}"/>')

    def dot(self, at: Point, colour: str, tip: str, span: tuple[float, float] | None = None) -> None:
        """A point with its interval, if any."""
        x, y = self.x(at[0]), self.y(at[1])
        if span is not None:
            low, high = (self.y(min(max(each, self.y_range[0]), self.y_range[1])) for each in span)
            self._parts.append(
                f'<path class="whisker {colour}" d="M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {low:.1f}h8'
                f'M{x - 4:.1f} {high:.1f}h8"/>'
            )
        self._parts.append(f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="4">{_tip(tip)}</circle>')

    def box(self, left: float, right: float, low: float, high: float, colour: str, tip: str) -> None:
        """A bar from `low` to `high`, in the plot's units."""
        x, width = self.x(left), self.x(right) - self.x(left)
        top, height = self.y(high), max(0.0, self.y(low) - self.y(high))
        self._parts.append(
            f'<rect class="bar {colour}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}">'
            f"{_tip(tip)}</rect>"
        )

    def note(self, at: Point, text: str, colour: str = "", anchor: str = "start", dy: float = -7) -> None:
        """Words next to a point."""
        x = min(max(self.x(at[0]), self.left), WIDTH - RIGHT)
        self._parts.append(
            f'<text class="note {colour}" x="{x:.1f}" y="{self.y(at[1]) + dy:.1f}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )

    def margin_note(self, y: float, text: str) -> None:
        """Words left of the axis, for a row."""
        self._parts.append(
            f'<text class="tick" x="{self.left - 10}" y="{self.y(y) + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        )

    def render(self, title: str) -> str:
        """The whole plot; `title` is what a screen reader says."""
        return (
            f'<svg viewBox="0 0 {WIDTH:.0f} {self.height:.0f}" role="img" aria-label="{escape(title)}">'
            + "".join([*self._axes(), *self._parts])
            + "</svg>"
        )

    def _axes(self) -> list[str]:
        bottom = self.height - BOTTOM
        parts = []
        for tick in self._y_ticks:
            y = self.y(tick)
            parts.append(f'<path class="grid" d="M{self.left} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(
                f'<text class="tick" x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">'
                f"{escape(self.y_words(tick))}</text>"
            )
        for value, text in self._x_labels():
            x = self.x(value)
            parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
            parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(text)}</text>')
        parts.append(f'<path class="axis" d="M{self.left} {bottom}H{WIDTH - RIGHT}"/>')
        middle = (self.left + WIDTH - RIGHT) / 2
        parts.append(
            f'<text class="title" x="{middle:.1f}" y="{self.height - 6}" text-anchor="middle">'
            f"{escape(self.x_title)}</text>"
        )
        parts.append(
            f'<text class="title" transform="translate(14 {(TOP + bottom) / 2:.1f}) rotate(-90)" '
            f'text-anchor="middle">{escape(self.y_title)}</text>'
        )
        return parts

    def _x_labels(self) -> Sequence[tuple[float, str]]:
        if self.x_ticks is not None:
            return self.x_ticks
        low, high = self.x_range
        return [(tick, label(tick)) for tick in nice_ticks(low, high) if low <= tick <= high]


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Colours and what they mean, as HTML above a plot; a dashed line's class ends in `dashed`."""
    items = (f'<span class="key"><i class="{colour}"></i>{escape(text)}</span>' for colour, text in entries)
    return f'<div class="legend">{"".join(items)}</div>'


def top_of(values: Sequence[float], share: float = 1.08) -> float:
    """The upper end of an axis that shows all of `values`."""
    return max([value for value in values if math.isfinite(value)], default=1.0) * share or 1.0


def staircase(quantiles: Sequence[float], cap: float, scale: Callable[[int], float]) -> list[Point]:
    """An ECDF's points from equally spaced quantiles; values beyond `cap` are left out."""
    return [(value, scale(index)) for index, value in enumerate(quantiles) if value <= cap]


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>"
