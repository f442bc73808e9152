"""Single values of a profile: limits, sizes, hosts. Pure; raises pydantic errors that carry a suggestion. For model."""

from __future__ import annotations

import ipaddress
import re
from decimal import Decimal
from typing import Final

from pydantic_core import PydanticCustomError

GIB = 2**30
MIB = 2**20
# Macs are sold with "16 GB" that are 16 GiB, so GB and GiB mean the same here: powers of 1024.
UNITS = {"MB": MIB, "MIB": MIB, "GB": GIB, "GIB": GIB, "TB": 2**40, "TIB": 2**40}

DEFAULT_API_PORT = 8100
DEFAULT_GRPC_PORT = 50100
DEFAULT_KV_GROUP_SIZE: Final = 64
DEFAULT_SSH_PORT = 22
MAX_PORT = 65535
MAX_NODES = 32
MAX_CONTEXT = 2**24
MAX_CONCURRENCY = 1024
MAX_LAYERS = 4096
MAX_TEXT = 1024

_SIZE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([A-Za-z]{2,3})")
_BARE_SIZE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([MGT]?)", re.IGNORECASE)
_HOST_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_ZONE = re.compile(r"[A-Za-z0-9._-]{1,32}")


def fault(message: str, suggestion: str | None = None, kind: str = "mlxctl") -> PydanticCustomError:
    """A mistake in a value, as pydantic collects it: `message` and `suggestion` are in the error's `ctx`."""
    return PydanticCustomError(kind, "{message}", {"message": message, "suggestion": suggestion})


def shown(value: object) -> str:
    """A value as it appears in a message: short, on one line."""
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:39] + "…")
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return str(value)


def parse_size(text: str) -> int:
    """Bytes of a size such as `16GB`, `4GiB`, `512MB`, `1.5GB` (case and one space do not matter)."""
    match = _SIZE.fullmatch(text)
    if match and (unit := UNITS.get(match[2].upper())):
        return int(Decimal(match[1]) * unit)
    bare = _BARE_SIZE.fullmatch(text)
    suggestion = f"write {bare[1]}{bare[2].upper() or 'G'}B" if bare else "such as 16GB, 512MB or 1.5GB"
    raise fault(f"{shown(text)} is not a size", suggestion)


def format_size(size_bytes: int) -> str:
    """The shortest exact spelling that `parse_size` reads back, else bytes."""
    for unit in ("TB", "GB", "MB"):
        amount = Decimal(size_bytes) / UNITS[unit]
        if amount >= 1 and amount == round(amount, 3):
            return f"{amount.normalize():f}{unit}"
    return f"{size_bytes} bytes"


def check_host(text: str) -> str:
    """`text` if it is a host name, an IPv4 or an IPv6 address (with a zone or without); else an error that helps."""
    if is_host(text):
        return text
    raise fault(f"{shown(text)} is not a host name or address", _host_suggestion(text))


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, reachable from nowhere else."""
    if host.casefold() == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def is_host(text: str) -> bool:
    """Whether `text` is a host name or address."""
    return _address(text) is not None or _is_host_name(text)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    zone = getattr(address, "scope_id", None)  # ipaddress takes any text as a zone
    return address if zone is None or _ZONE.fullmatch(zone) else None


def _is_host_name(text: str) -> bool:
    labels = text.removesuffix(".").split(".")
    return len(text) <= 253 and not labels[-1].isdecimal() and all(_HOST_LABEL.fullmatch(label) for label in labels)


def _host_suggestion(text: str) -> str | None:
    user, at, host = text.rpartition("@")
    if at and _is_host_name(user) and is_host(host):
        return f"write user: {user} and host: {host}"
    if text.startswith("[") and text.endswith("]") and _address(text[1:-1]):
        return f'write it without brackets: "{text[1:-1]}"'
    name, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and is_host(name):
        return f"write host: {name}, and the port in its own key"
    if "://" in text:
        return "only the name, nothing before or after it"
    return None
