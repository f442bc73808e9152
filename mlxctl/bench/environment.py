"""What a bench runs on: tool and git state, hosts, their bandwidth, versions, load, heat. Called by the runner."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import psutil

import mlxctl
from mlxctl.bench.records import Host, Tool
from mlxctl.bench.thermal import thermal_now
from mlxctl.facts import NodeFacts

PACKAGES = ("mlx", "mlx-lm", "numpy", "grpcio")
TRIAD_TIMEOUT_S = 120.0
GIT_TIMEOUT_S = 5.0


def tool() -> Tool:
    """This mlxctl; commit and dirtiness where it runs from a git checkout."""
    folder = Path(mlxctl.__file__).resolve().parents[1]
    commit = _git(folder, "rev-parse", "HEAD") if (folder / ".git").exists() else None
    dirty = None if commit is None else bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    return Tool(version=mlxctl.__version__, python=platform.python_version(), commit=commit or None, dirty=dirty)


def hosts(nodes: Sequence[NodeFacts], local: Sequence[str], bandwidth_bytes_per_s: float | None) -> tuple[Host, ...]:
    """One record per machine of `nodes`; that of the nodes in `local` is this one, whose triad reached
    `bandwidth_bytes_per_s`. Of other machines only what the planner knows is known.
    """
    by_host: dict[str, list[NodeFacts]] = {}
    for node in nodes:
        by_host.setdefault(node.host_id, []).append(node)
    return tuple(
        _host(group, any(node.name in local for node in group), bandwidth_bytes_per_s) for group in by_host.values()
    )


def this_host(bandwidth_bytes_per_s: float | None) -> Host:
    """This machine as the client of a server of which nothing is known."""
    from mlxctl.launch.probe import probe_machine

    return _host([probe_machine()], True, bandwidth_bytes_per_s)


def measured_bandwidth() -> float | None:
    """Bytes a second that a triad reaches here; None where it cannot run."""
    command = [sys.executable, "-m", "mlxctl.bench.triad"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAD_TIMEOUT_S, check=True)
        return float(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        return None


def load_1m() -> float:
    """This machine's load average of the last minute."""
    return psutil.getloadavg()[0]


def _host(group: Sequence[NodeFacts], is_here: bool, bandwidth_bytes_per_s: float | None) -> Host:
    facts = group[0]
    source = facts.sources.get("bandwidth_bytes_per_s")
    known = facts.bandwidth_bytes_per_s
    measured = bandwidth_bytes_per_s if is_here else None
    return Host(
        name="this machine" if is_here else facts.host_id,
        nodes=tuple(node.name for node in group),
        chip=facts.chip,
        os=f"{platform.system()} {platform.release()} {platform.machine()}" if is_here else facts.os,
        memory_bytes=facts.memory_bytes,
        cores=psutil.cpu_count(logical=False) if is_here else None,
        bandwidth_bytes_per_s=measured or known,
        bandwidth_source="measured" if measured or source == "measured" else "table" if known else None,
        versions=_versions() if is_here else {},
        load_1m=load_1m() if is_here else None,
        thermal=thermal_now() if is_here else None,
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
