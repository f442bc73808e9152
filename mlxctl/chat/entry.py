"""Multi-line entry: when typed text is complete, and what it means. Pure; used by the REPL's key bindings."""

from __future__ import annotations

FENCE = '"""'


def is_complete(text: str) -> bool:
    """False while Enter should open another line: after a trailing backslash or inside an open triple quote."""
    if text.lstrip().startswith(FENCE):
        return _closed(text)
    return not text.endswith("\\")


def message(text: str) -> str:
    """What `text` says once entered: without its triple quotes, lines ending in a backslash joined by line ends."""
    stripped = text.strip()
    if stripped.startswith(FENCE) and _closed(text):
        return stripped[len(FENCE) : -len(FENCE)].strip("\n")
    return text.replace("\\\n", "\n")


def _closed(text: str) -> bool:
    stripped = text.strip()
    return len(stripped) >= 2 * len(FENCE) and stripped.endswith(FENCE)
