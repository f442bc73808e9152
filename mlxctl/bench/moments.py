"""Moments as reports write them: ISO 8601 in UTC. Called wherever a record is made."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> str:
    """Such as 2026-01-31T12:00:00.123Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
