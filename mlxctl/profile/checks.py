"""What a profile's parts must agree on. Pure, on plain data as written, so that it works beside other mistakes.

Called by load for the lines, and by Profile itself when code builds one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mlxctl.profile.document import Location
from mlxctl.profile.values import (
    DEFAULT_API_PORT,
    DEFAULT_GRPC_PORT,
    DEFAULT_KV_GROUP_SIZE,
    DEFAULT_SSH_PORT,
    MAX_PORT,
    format_size,
    is_host,
    is_loopback,
    parse_size,
    shown,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Parts that disagree, and where."""

    location: Location
    message: str
    suggestion: str | None = None


def cross_faults(data: Mapping[str, object]) -> list[Fault]:
    """Every disagreement in `data`; values of a wrong type are passed over, they are reported elsewhere."""
    nodes = [fault for index, node in enumerate(_nodes(data)) for fault in _node_faults(_mapping(node), index)]
    return [*_repeated_names(data), *nodes, *_pins_of_nobody(data), *_open_api(data), *_ports(data), *_groups(data)]


def _repeated_names(data: Mapping[str, object]) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for index, name in _node_names(data):
        if first := seen.get(name.casefold()):
            same = "" if first == name else f", as {shown(first)}: names become file names, where case may not count"
            yield Fault(("nodes", index, "name"), f"{shown(name)} is taken by an earlier node{same}", "another name")
        seen.setdefault(name.casefold(), name)


def _node_faults(node: Mapping[str, object], index: int) -> Iterator[Fault]:
    host = node.get("host")
    if isinstance(host, str) and is_loopback(host):
        for key in ("user", "ssh_port", "identity_file"):
            if node.get(key) not in (None, DEFAULT_SSH_PORT):
                yield Fault(("nodes", index, key), "does nothing: this machine is not reached over SSH", "remove it")
    memory, reserve = _size(node.get("memory")), _size(node.get("memory_reserve"))
    if memory and reserve and reserve >= memory:
        message = f"{format_size(reserve)} leaves nothing of memory {format_size(memory)}"
        yield Fault(("nodes", index, "memory_reserve"), message, "reserve less")


def _size(value: object) -> int | None:
    if isinstance(value, str):
        with suppress(ValueError):
            return parse_size(value)
    return value if isinstance(value, int) else None


def _pins_of_nobody(data: Mapping[str, object]) -> Iterator[Fault]:
    names = [name for _, name in _node_names(data)]
    for pinned in _mapping(_mapping(data.get("placement")).get("layers")):
        if pinned not in names:
            near = difflib.get_close_matches(pinned, names, 1)
            suggestion = f"did you mean {near[0]}?" if near else None
            yield Fault(("placement", "layers", pinned), "there is no node of this name", suggestion)


def _open_api(data: Mapping[str, object]) -> Iterator[Fault]:
    api = _mapping(data.get("api"))
    host = api.get("host")
    if isinstance(host, str) and is_host(host) and not is_loopback(host) and api.get("api_key_file") is None:
        message = f"{shown(host)} can be reached from other machines, so the API needs a key"
        yield Fault(("api", "host"), message, "set api_key_file, or host: 127.0.0.1")


def _ports(data: Mapping[str, object]) -> Iterator[Fault]:
    count = max(1, len(_nodes(data)))
    first, api = data.get("grpc_port", DEFAULT_GRPC_PORT), _mapping(data.get("api")).get("port", DEFAULT_API_PORT)
    if not isinstance(first, int) or not 1 <= first <= MAX_PORT:
        return
    last = first + count - 1
    if last > MAX_PORT:
        yield Fault(("grpc_port",), f"{count} workers count up from {first}, beyond {MAX_PORT}", "a smaller one")
    elif isinstance(api, int) and first <= api <= last:
        where: Location = ("api", "port") if "port" in _mapping(data.get("api")) else ("grpc_port",)
        yield Fault(where, f"the API's port {api} is among the workers' {first} to {last}", "move one of them")


def _groups(data: Mapping[str, object]) -> Iterator[Fault]:
    if data.get("kv_bits") is None and data.get("kv_group_size") not in (None, DEFAULT_KV_GROUP_SIZE):
        yield Fault(("kv_group_size",), "does nothing without kv_bits", "set kv_bits: 8, or remove it")


def _node_names(data: Mapping[str, object]) -> list[tuple[int, str]]:
    named = ((index, _mapping(node).get("name")) for index, node in enumerate(_nodes(data)))
    return [(index, name) for index, name in named if isinstance(name, str)]


def _nodes(data: Mapping[str, object]) -> Sequence[object]:
    nodes = data.get("nodes")
    return nodes if isinstance(nodes, list | tuple) else ()


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
