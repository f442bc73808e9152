"""Reads the first line of a pipe and no byte more, so that its end can be watched for. Used by worker and daemon."""

from __future__ import annotations

import os


def read_line(descriptor: int) -> bytes:
    """One line, line end included; shorter only if the other end closed before."""
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(descriptor, 1)):
        line += byte
    return bytes(line)
