"""NodeFacts of a Mac, from what sysctl, vm_stat and system_profiler print. Called by probe; the parsers are pure.

Unverified on a Mac so far: the parsers are tested against recorded output.
"""

from __future__ import annotations

import re
import subprocess

from mlxctl.errors import LaunchError
from mlxctl.facts import NodeFacts, Source
from mlxctl.hardware import find_mac, flops_of, wired_limit

COMMAND_TIMEOUT_S = 10.0
COMMANDS = (
    ("sysctl", "hw.memsize", "machdep.cpu.brand_string", "iogpu.wired_limit_mb"),
    ("vm_stat",),
    ("system_profiler", "SPDisplaysDataType"),
)
_PAGES = re.compile(r'^"?Pages (free|inactive|speculative|purgeable)"?:\s+(\d+)\.', re.MULTILINE)
_PAGE_SIZE = re.compile(r"page size of (\d+) bytes")
_GPU_CORES = re.compile(r"^\s*Total Number of Cores:\s*(\d+)", re.MULTILINE)


def probe(name: str) -> NodeFacts:
    """This Mac, under `name`."""
    return parse(name, *(_output(*command) for command in COMMANDS))


def parse(name: str, sysctl: str, vm_stat: str, displays: str) -> NodeFacts:
    """A Mac from what COMMANDS print on it. Raises LaunchError where that is not of a Mac."""
    settings = parse_sysctl(sysctl)
    if not settings.get("hw.memsize", "").isdecimal():
        raise LaunchError("sysctl does not tell how much memory it has", hint="run there: sysctl hw.memsize")
    memory_bytes = int(settings["hw.memsize"])
    wired_bytes, wired_source = wired_limit(memory_bytes, int(settings.get("iogpu.wired_limit_mb", "0")))
    chip = settings.get("machdep.cpu.brand_string", "Apple silicon")
    cores = parse_gpu_cores(displays)
    mac = find_mac(chip, memory_bytes, cores)
    sources: dict[str, Source] = dict.fromkeys(("chip", "memory_bytes", "available_bytes"), "measured")
    sources |= {"wired_limit_bytes": wired_source}
    sources |= {"bandwidth_bytes_per_s": "table", "flops": "assumed"} if mac else {}
    return NodeFacts(
        name=name,
        host_id=name,
        chip=chip,
        os="macOS",
        memory_bytes=memory_bytes,
        available_bytes=parse_vm_stat(vm_stat),
        wired_limit_bytes=wired_bytes,
        bandwidth_bytes_per_s=mac.bandwidth_bytes_per_s if mac else None,
        flops=flops_of(mac, cores) if mac else None,
        sources=sources,
    )


def parse_sysctl(text: str) -> dict[str, str]:
    """`key: value` lines; keys that this macOS does not know are missing."""
    pairs = (line.split(": ", 1) for line in text.splitlines() if ": " in line)
    return {key: value.strip() for key, value in pairs}


def parse_vm_stat(text: str) -> int:
    """Bytes that programs can have without swapping: free, inactive, speculative and purgeable pages."""
    page = _PAGE_SIZE.search(text)
    return sum(int(pages) for _, pages in _PAGES.findall(text)) * (int(page[1]) if page else 16384)


def parse_gpu_cores(text: str) -> int | None:
    """GPU cores in the text of `system_profiler SPDisplaysDataType`."""
    found = _GPU_CORES.search(text)
    return int(found[1]) if found else None


def _output(*command: str) -> str:
    """What `command` prints; sysctl fails for one unknown key and still prints the others."""
    return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False).stdout
