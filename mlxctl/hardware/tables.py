"""Macs and links as published: memory, bandwidth, arithmetic. Called by probe, by facts files and by the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mlxctl.facts import Source

_FOLDER = Path(__file__).parent
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class MacChip:
    """One row of macs.yaml: a chip as it is sold, with the GPUs and memories that come with it."""

    chip: str
    gpu_cores: tuple[int, ...]
    memory_gb: tuple[int, ...]
    bandwidth_bytes_per_s: float
    flops_per_gpu_core: float


@dataclass(frozen=True, slots=True)
class Link:
    """One row of links.yaml."""

    name: str
    bytes_per_s: float
    hop_s: float


@cache
def mac_chips() -> tuple[MacChip, ...]:
    """All rows of macs.yaml."""
    return tuple(
        MacChip(
            row["chip"],
            tuple(row["gpu_cores"]),
            tuple(row["memory_gb"]),
            row["bandwidth_gb_per_s"] * 1e9,
            row["tflops_per_gpu_core"] * 1e12,
        )
        for row in _rows("macs.yaml")
    )


@cache
def links() -> tuple[Link, ...]:
    """All rows of links.yaml."""
    return tuple(Link(row["link"], row["bytes_per_s"], row["hop_us"] * 1e-6) for row in _rows("links.yaml"))


def find_mac(chip: str, memory_bytes: int, gpu_cores: int | None = None) -> MacChip | None:
    """The row for `chip` (`M4 Max`, `Apple M4 Max`): that with these GPU cores, else the slowest with this memory."""
    name = chip.casefold().removeprefix("apple").strip()
    rows = [row for row in mac_chips() if row.chip.casefold() == name]
    fitting = [row for row in rows if gpu_cores in row.gpu_cores]
    fitting = fitting or [row for row in rows if memory_bytes / GIB in row.memory_gb] or rows
    return min(fitting, key=lambda row: row.bandwidth_bytes_per_s, default=None)


def flops_of(mac: MacChip, gpu_cores: int | None) -> float:
    """Arithmetic of the whole GPU; of the smallest one sold if the cores are not known."""
    return mac.flops_per_gpu_core * (gpu_cores or min(mac.gpu_cores))


def find_link(name: str) -> Link | None:
    """The link called `name`, whatever its case and spaces."""
    wanted = name.casefold().replace(" ", "")
    return next((link for link in links() if link.name.casefold().replace(" ", "") == wanted), None)


def wired_limit(memory_bytes: int, set_mb: int = 0) -> tuple[int, Source]:
    """What a Mac's GPU may wire: as set by iogpu.wired_limit_mb, else macOS's share, which is assumed: two thirds of
    the memory up to 36 GB, three quarters beyond.
    """
    if set_mb > 0:
        return set_mb << 20, "measured"
    return memory_bytes * 3 // 4 if memory_bytes > 36 * GIB else memory_bytes * 2 // 3, "assumed"


def _rows(name: str) -> Sequence[dict[str, Any]]:
    rows: Sequence[dict[str, Any]] = yaml.safe_load((_FOLDER / name).read_text(encoding="utf-8"))
    return rows
