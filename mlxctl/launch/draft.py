"""Drafts a profile: hosts as typed, what they turned out to be, the commented YAML. Pure; called by `mlxctl init`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from mlxctl.errors import UsageError
from mlxctl.launch.doctor.system import System
from mlxctl.paths import name_fault
from mlxctl.profile import Node

_HOST = re.compile(r"(?:([^@\s]+)@)?(\[[^\]\s]+\]|[^:\s]+|[0-9A-Fa-f:]+:[0-9A-Fa-f:]*)(?::(\d+))?")
_GIB = 1 << 30
_BETTER = {"Wi-Fi": ("ethernet", "Thunderbolt bridge"), "ethernet": ("Thunderbolt bridge",)}


@dataclass(frozen=True, slots=True)
class Draft:
    """A node of the profile to be. `python` and `host_name` are what the machine itself says."""

    node: Node
    host_name: str
    python: str
    system: System | None
    address: str = ""


def parse_host(text: str) -> Node:
    """`[user@]host[:port]` as a node without a real name yet. Raises UsageError."""
    found = _HOST.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is not a host", hint="write host, user@host or user@host:port")
    user, host, port = found.groups()
    fields: dict[str, object] = {"name": "node", "host": host.strip("[]")}
    fields |= {"user": user} if user else {}
    fields |= {"ssh_port": int(port)} if port else {}
    try:
        return Node.model_validate(fields)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise UsageError(f"{text!r}: {reason}", hint="write host, user@host or user@host:port") from error


def node_names(drafts: Sequence[Draft]) -> list[str]:
    """A different short name for each: the first label of what the machine calls itself, else of how it is reached."""
    names: list[str] = []
    for draft in drafts:
        candidates = [draft.host_name.partition(".")[0], draft.node.host.partition(".")[0], "node"]
        base = next(name for name in candidates if name_fault(name) is None and not name[0].isdecimal())
        base = "node" if base.casefold() in ("coordinator", "localhost") else base
        numbered = (f"{base}-{number}" for number in range(2, len(drafts) + 2))
        taken = {name.casefold() for name in names}
        names.append(next(name for name in (base, *numbered) if name.casefold() not in taken))
    return names


def write_profile(name: str, model: str, drafts: Sequence[Draft]) -> str:
    """The profile's YAML, every key that matters explained."""
    nodes = "".join(_node(node, draft) for node, draft in zip(node_names(drafts), drafts, strict=True))
    return f"""\
# Written by mlxctl init. Try: mlxctl doctor, mlxctl plan and mlxctl up, each with this file's name.
name: {_yaml(name)}
model: {_yaml(model)}    # canary is built in, 8 MB; or a hub id such as mlx-community/Qwen3-1.7B-8bit, or a directory

# What must fit, and what is optimised. These are the defaults.
# context: 8192            # tokens per sequence
# concurrency: 8           # sequences at once
# objective: throughput    # or latency: the fewest, fastest nodes

# Where the API and the workers listen. Another API host than this machine itself needs an api_key_file.
# api: {{host: 127.0.0.1, port: 8100}}
# grpc_port: 50100         # workers count up from here

# Without `memory` a node gives what is free there at `up`; `memory_reserve` is kept for its other work.
nodes:
{nodes}"""


def _node(name: str, draft: Draft) -> str:
    node = draft.node
    keys = [f"name: {_yaml(name)}", f"host: {_yaml(node.host)}"]
    keys += [f"user: {_yaml(node.user)}"] if node.user else []
    keys += [f"ssh_port: {node.ssh_port}"] if "ssh_port" in node.model_fields_set else []
    first, *rest = keys
    lines = [f"  # {_described(draft)}", f"  - {first}", *(f"    {key}" for key in rest), *_options(draft)]
    return "\n".join(lines) + "\n"


def _described(draft: Draft) -> str:
    system = draft.system
    if system is None:
        return f"Python at {draft.python}"
    interface = system.interface_of(draft.address)
    way = f", reached by {interface.medium} ({interface.name})" if interface is not None else ""
    free = f"{system.memory_bytes / _GIB:.0f} GiB of memory, {system.available_bytes / _GIB:.0f} GiB free"
    return f"{system.chip}, {free}, {draft.python}{way}"


def _options(draft: Draft) -> list[str]:
    """Keys worth a thought, as comments."""
    system = draft.system
    if system is None:
        return []
    size = system.memory_bytes / 10**9
    lines = [f"    # memory: {max(1, int(size * 0.75))}GB"]
    current = system.interface_of(draft.address)
    for interface in system.interfaces:
        is_better = interface.medium in _BETTER.get(current.medium if current is not None else "", ())
        address = next((each for each in interface.addresses if _is_usable_ipv4(each)), None)
        if is_better and address is not None:
            lines.append(f"    # data_address: {address}    # {interface.medium} ({interface.name}): faster")
    return lines


def _is_usable_ipv4(address: str) -> bool:
    return ":" not in address and not address.startswith(("127.", "169.254."))


def _yaml(text: str) -> str:
    """Plain where YAML reads it as the same text, else quoted."""
    plain = re.fullmatch(r"[A-Za-z/~][\w./@~-]*|\d+\.\d+\.\d+\.\d+", text)
    return (
        text
        if plain and text.casefold() not in ("yes", "no", "on", "off", "true", "false", "null")
        else json.dumps(text)
    )
