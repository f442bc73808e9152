"""Threads of processes that carry frames. Used by the coordinator, workers and ranks when they start."""

from __future__ import annotations

import sys

SWITCH_INTERVAL_S = 5e-5


def switch_quickly() -> None:
    """Hand the interpreter over sooner: the default of 5 ms costs a hop that much when another thread holds it."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
