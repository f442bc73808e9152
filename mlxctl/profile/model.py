"""The profile: what the user wants of a cluster, checked and frozen. Read by plan, launch, coordinator and cli."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from mlxctl.errors import Problem, ProfileError, UsageError
from mlxctl.paths import name_fault
from mlxctl.profile import values
from mlxctl.profile.checks import cross_faults
from mlxctl.profile.document import dotted
from mlxctl.profile.key_file import read_key, serving_key
from mlxctl.profile.values import fault, shown

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9_.\[\]:-]+")
RESERVED_NODE_NAME = "coordinator"  # it has a log and a certificate of its own


def _check_name(text: str) -> str:
    if message := name_fault(text):
        raise fault(f"{shown(text)} {message}")
    return text


def _check_node_name(text: str) -> str:
    if text.casefold() == RESERVED_NODE_NAME:
        raise fault(f"{shown(text)} is what the coordinator's log is called", "another name")
    return _check_name(text)


def _check_text(text: str) -> str:
    if not text.strip() or not text.isprintable() or text.startswith("-"):
        raise fault(f"{shown(text)} is not usable here", "write some text, without a leading dash")
    return text


def _check_user(text: str) -> str:
    if any(character.isspace() or character in ":@/" for character in text):
        raise fault(f"{shown(text)} is not a user name")
    return _check_text(text)


def _read_size(value: object, info: ValidationInfo) -> object:
    """Sizes come as text with a unit; bare bytes are for code, a small bare number in a file is a forgotten unit."""
    if isinstance(value, str):
        return values.parse_size(value)
    if isinstance(value, int) and not isinstance(value, bool) and info.context and 0 < value < values.MIB:
        raise fault(f"{value} has no unit", f"write {value}GB")
    return value


def _check_pin(count: int) -> int:
    if count < 1:
        raise fault(f"must be at least 1, not {count}", "to leave a node out, remove it from nodes")
    return count


def _anchor(path: Path, info: ValidationInfo) -> Path:
    """`path` with `~` expanded; a relative one is meant from the profile's folder, which is the context."""
    text = str(path)
    if text == "." or not text.isprintable():
        raise fault(f"{shown(text)} is not a file")
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise fault(f"{shown(text)}: no such user") from error
    return Path(info.context) / path if info.context else path


def _check_origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise fault(f"{shown(text)} is not an origin", "such as https://chat.example.org or http://localhost:3000")
    return text


Name = Annotated[str, AfterValidator(_check_name)]
NodeName = Annotated[str, AfterValidator(_check_node_name)]
Host = Annotated[str, AfterValidator(values.check_host)]
Text = Annotated[str, Field(max_length=values.MAX_TEXT), AfterValidator(_check_text)]
User = Annotated[str, Field(max_length=values.MAX_TEXT), AfterValidator(_check_user)]
Port = Annotated[int, Field(ge=1, le=values.MAX_PORT)]
Size = Annotated[int, BeforeValidator(_read_size)]
Origin = Annotated[str, AfterValidator(_check_origin)]
LocalPath = Annotated[Path, Field(strict=False), AfterValidator(_anchor)]
Pin = Annotated[int, AfterValidator(_check_pin), Field(le=values.MAX_LAYERS)]


def _size_field(key: str, default: int | None, minimum: int) -> Any:
    """A size that is called `key` in YAML and `key_bytes` here."""
    return Field(default=default, ge=minimum, validation_alias=key, serialization_alias=key)


class Part(BaseModel):
    """What all parts of a profile have in common: frozen, strict, nothing unknown."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_by_name=True, validate_by_alias=True, allow_inf_nan=False
    )


class Api(Part):
    """Where the coordinator serves HTTP. Another host than this machine's loopback needs an API key.

    `allowed_hosts`: more names that clients may know the API by. `cors_origins`: pages that may ask from a browser.
    """

    host: Host = "127.0.0.1"
    port: Port = values.DEFAULT_API_PORT
    api_key_file: LocalPath | None = None
    allowed_hosts: tuple[Host, ...] = ()
    cors_origins: tuple[Origin, ...] = ()

    def read_key(self) -> str | None:
        """The API key, if one is asked for. Raises UsageError where its file cannot be read or holds none."""
        return read_key(self.api_key_file) if self.api_key_file is not None else None

    @property
    def key_hint(self) -> str | None:
        """What to do when a running cluster refuses the key of its file: the file was changed after it came up."""
        if self.api_key_file is None:
            return None
        return f"{self.api_key_file} has changed since the cluster came up: mlxctl up --recreate takes its new key"

    def serving_key(self) -> str | None:
        """The key to serve with, made if its file is not there. Raises UsageError, also for a weak key."""
        return serving_key(self.api_key_file) if self.api_key_file is not None else None


class Node(Part):
    """One device. `host: localhost` is started without SSH; several of them emulate devices on this machine."""

    name: NodeName
    host: Host
    user: User | None = None
    ssh_port: Port = values.DEFAULT_SSH_PORT
    identity_file: LocalPath | None = None
    data_address: Host | None = None
    memory_bytes: Size | None = _size_field("memory", None, 1)
    memory_reserve_bytes: Size = _size_field("memory_reserve", 0, 0)
    python: Text | None = None

    @property
    def is_local(self) -> bool:
        """Whether its worker runs on this machine, as a child of the coordinator."""
        return values.is_loopback(self.host)


class Placement(Part):
    """Pins by node name; the planner places what is left."""

    layers: dict[str, Pin] = {}


class Profile(Part):
    """A cluster as the user wants it. `context` None: what the model allows, at most 8192. `kv_bits` None: keys and
    values as the model makes them.
    """

    name: Name
    model: Text = "canary"
    context: int | None = Field(default=None, ge=1, le=values.MAX_CONTEXT)
    concurrency: int = Field(default=8, ge=1, le=values.MAX_CONCURRENCY)
    objective: Literal["throughput", "latency"] = "throughput"
    kv_bits: Literal[4, 8] | None = None
    kv_group_size: Literal[32, 64, 128] = values.DEFAULT_KV_GROUP_SIZE
    api: Api = Api()
    grpc_port: Port = values.DEFAULT_GRPC_PORT
    nodes: tuple[Node, ...] = Field(min_length=1, max_length=values.MAX_NODES)
    placement: Placement = Placement()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if faults := cross_faults(self.as_written()):
            raise fault("; ".join(each.message for each in faults), faults[0].suggestion, kind="cross_check")
        return self

    def as_written(self) -> dict[str, Any]:
        """Plain data under the keys of the YAML; sizes are bytes, paths text."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        return data

    def emulated_locally(self) -> Profile:
        """Every node as a process on this machine, its `memory` as budget: a 4-Mac profile without Macs."""
        return self.model_copy(update={"nodes": tuple(_emulated(node) for node in self.nodes)})

    def first(self, devices: int) -> Profile:
        """The same cluster on its first `devices` nodes; pins of the others go. Raises UsageError."""
        if not 1 <= devices <= len(self.nodes):
            raise UsageError(
                f"{devices} devices asked for, but profile {self.name} has {len(self.nodes)}",
                hint="add nodes to the profile" if devices > len(self.nodes) else "at least 1",
            )
        nodes = self.nodes[:devices]
        names = {node.name for node in nodes}
        pins = {name: count for name, count in self.placement.layers.items() if name in names}
        return self.model_copy(update={"nodes": nodes, "placement": Placement(layers=pins)})

    def to_json(self) -> str:
        """JSON that `from_json` reads back, telling what was asked for (`model_fields_set`) from defaults."""
        return self.model_dump_json(exclude_unset=True)

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """The profile that `to_json` wrote. Raises ProfileError for anything else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            where = dotted(error.errors()[0]["loc"])
            message = f"was not written by this version of mlxctl ({error.error_count()} mistakes)"
            raise ProfileError([Problem("profile.json", None, where, message)]) from error

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of every value, defaults included: equal exactly where `difference` is empty."""
        return hashlib.sha256(json.dumps(self.as_written(), sort_keys=True).encode()).hexdigest()

    def difference(self, other: Profile) -> list[str]:
        """What changes from this profile to `other`, one readable line each."""
        before, after = _lines(self), _lines(other)
        lines = [("nodes", _names(self), _names(other))]
        lines += [(key, before[key], after[key]) for key in after if key in before]
        lines += [(key, "-", after[key]) for key in after if key.startswith("placement") and key not in before]
        lines += [(key, before[key], "-") for key in before if key.startswith("placement") and key not in after]
        return [f"{key}: {old} -> {new}" for key, old, new in lines if old != new]


def _emulated(node: Node) -> Node:
    reserve_bytes = node.memory_reserve_bytes
    return Node(name=node.name, host="localhost", memory_bytes=node.memory_bytes, memory_reserve_bytes=reserve_bytes)


def _names(profile: Profile) -> str:
    return ", ".join(node.name for node in profile.nodes)


def _lines(profile: Profile) -> dict[str, str]:
    """Every value by its dotted path, nodes by name."""
    data = profile.as_written()
    data["nodes"] = {node["name"]: node for node in data["nodes"]}
    return dict(_flat(data, ""))


def _flat(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif key.startswith("memory") and isinstance(value, int):
            yield prefix + key, values.format_size(value)
        else:
            yield prefix + key, "default" if value is None else str(value)
