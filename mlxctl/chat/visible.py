"""What a model wrote, made safe for a terminal: escape sequences in it must not move cursors or set titles."""

from __future__ import annotations

_UNPRINTABLE = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    """`text` without control characters other than line end and tab."""
    return text.translate(_UNPRINTABLE)
