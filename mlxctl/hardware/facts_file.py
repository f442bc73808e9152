"""facts.yaml → NodeFacts of machines that need not exist. Called by `mlxctl plan --simulate`.

    nodes:
      - {name: studio, chip: M2 Max, memory: 64GB, link: 10GbE}
      - {name: mini1, chip: M4, gpu_cores: 10, memory: 16GB}
      - {name: box, memory: 24GB, bandwidth_gb_per_s: 20, tflops: 0.3, os: Linux, host: rack}

What is not given comes from the tables of Macs and links; `link_mb_per_s` and `link_latency_us` (one way) of a link
that was measured, as `mlxctl bench links -o facts.yaml` writes them, come before the table's. Nodes with the same
`host` share its memory.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from mlxctl.errors import Problem, ProfileError
from mlxctl.facts import NodeFacts, Source
from mlxctl.hardware.tables import find_link, find_mac, flops_of, links, mac_chips, wired_limit
from mlxctl.profile.document import MAX_FILE_BYTES, Document, dotted, parse_document
from mlxctl.profile.values import fault, parse_size, shown

FREE_SHARE = 0.85
"""Of a Mac's memory when nothing much runs on it: assumed."""


def _read_size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(_read_size), Field(gt=0)]


class SimulatedNode(BaseModel):
    """One machine as written."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    memory: Size
    chip: str | None = None
    gpu_cores: Annotated[int, Field(gt=0, le=1024)] | None = None
    os: Literal["macOS", "Linux"] | None = None
    host: str | None = None
    available: Size | None = None
    wired_limit: Size | None = None
    bandwidth_gb_per_s: Annotated[float, Field(gt=0)] | None = None
    tflops: Annotated[float, Field(gt=0)] | None = None
    link: str | None = None
    link_mb_per_s: Annotated[float, Field(gt=0)] | None = None
    link_latency_us: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        chips = tuple(dict.fromkeys(mac.chip for mac in mac_chips()))
        if self.chip is not None and self.bandwidth_gb_per_s is None and find_mac(self.chip, self.memory) is None:
            near = difflib.get_close_matches(self.chip, chips, 1)
            advice = f"did you mean {near[0]}?" if near else f"give bandwidth_gb_per_s, or one of: {', '.join(chips)}"
            raise fault(f"chip {shown(self.chip)} is not in the table", advice)
        if self.link is not None and find_link(self.link) is None:
            known = ", ".join(link.name for link in links())
            raise fault(f"link {shown(self.link)} is not in the table", f"one of: {known}")
        return self

    def facts(self) -> NodeFacts:
        """What was written, with the tables for the rest."""
        mac = find_mac(self.chip, self.memory, self.gpu_cores) if self.chip else None
        system = self.os or ("macOS" if mac else "Linux")
        link = find_link(self.link) if self.link else None
        given: dict[str, tuple[Any, Source]] = {}
        if system == "macOS":
            given["wired_limit_bytes"] = (self.wired_limit, "profile") if self.wired_limit else wired_limit(self.memory)
        if self.bandwidth_gb_per_s is not None:
            given["bandwidth_bytes_per_s"] = (self.bandwidth_gb_per_s * 1e9, "profile")
        elif mac:
            given["bandwidth_bytes_per_s"] = (mac.bandwidth_bytes_per_s, "table")
        if self.tflops is not None:
            given["flops"] = (self.tflops * 1e12, "profile")
        elif mac:
            given["flops"] = (flops_of(mac, self.gpu_cores), "assumed")
        if link:
            given["link_bytes_per_s"] = (link.bytes_per_s, "table")
            given["link_latency_s"] = (link.hop_s, "assumed")
        if self.link_mb_per_s is not None:
            given["link_bytes_per_s"] = (self.link_mb_per_s * 1e6, "profile")
        if self.link_latency_us is not None:
            given["link_latency_s"] = (self.link_latency_us / 1e6, "profile")
        sources: dict[str, Source] = {key: source for key, (_, source) in given.items()}
        sources["memory_bytes"] = "profile"
        sources["available_bytes"] = "profile" if self.available else "assumed"
        return NodeFacts(
            name=self.name,
            host_id=self.host or self.name,
            chip=self.chip or "unknown chip",
            os=system,
            memory_bytes=self.memory,
            available_bytes=self.available or round(self.memory * FREE_SHARE),
            sources=sources,
            **{key: value for key, (value, _) in given.items()},
        )


class _FactsFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: tuple[SimulatedNode, ...] = Field(min_length=1, max_length=32)


def read_facts_file(path: Path) -> tuple[NodeFacts, ...]:
    """The machines of `path`. Raises ProfileError with every mistake and its line."""
    document = parse_document(_read(path), str(path))
    problems = list(document.problems)
    try:
        nodes = _FactsFile.model_validate(document.data).nodes
    except ValidationError as error:
        problems += [_problem(details, document) for details in error.errors(include_url=False) if _is_news(details)]
        raise ProfileError(problems) from None
    names = [node.name for node in nodes]
    problems += [
        Problem(
            document.file, document.line(("nodes", index)), f"nodes[{index}].name", f"{shown(name)} is taken already"
        )
        for index, name in enumerate(names)
        if name in names[:index]
    ]
    if problems:
        raise ProfileError(problems)
    return tuple(node.facts() for node in nodes)


def _is_news(details: ErrorDetails) -> bool:
    """Pydantic counts a list of nodes with mistakes in them as too short."""
    return details["type"] != "too_short" or not details["input"]


def _problem(details: ErrorDetails, document: Document) -> Problem:
    context = details.get("ctx", {})
    message = context.get("message") or details["msg"][:1].lower() + details["msg"][1:]
    location = details["loc"]
    suggestion = context.get("suggestion")
    return Problem(document.file, document.line(location), dotted(location), message, suggestion)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        example = "write such as: nodes: [{name: studio, chip: M2 Max, memory: 64GB, link: 10GbE}]"
        raise ProfileError([Problem(str(path), None, "", f"cannot be read: {error.strerror}", example)]) from None
