"""Machines that need not exist, from YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxctl.errors import ProfileError
from mlxctl.facts import NodeFacts
from mlxctl.hardware import read_facts_file
from tests.plans import GIB

pytestmark = pytest.mark.unit


def read(folder: Path, text: str) -> tuple[NodeFacts, ...]:
    file = folder / "facts.yaml"
    file.write_text(text)
    return read_facts_file(file)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        read(folder, text)
    return [str(problem).replace(str(folder), "") for problem in caught.value.problems]


def test_a_mac_is_filled_in_from_the_table(tmp_path: Path) -> None:
    (node,) = read(tmp_path, "nodes:\n  - {name: studio, chip: M2 Max, memory: 64GB, link: 10GbE}\n")
    assert node.os == "macOS"
    assert node.memory_bytes == 64 * GIB
    assert node.wired_limit_bytes == 48 * GIB
    assert node.bandwidth_bytes_per_s == 400e9
    assert node.link_bytes_per_s == 1175e6
    assert node.sources == {
        "memory_bytes": "profile",
        "available_bytes": "assumed",
        "wired_limit_bytes": "assumed",
        "bandwidth_bytes_per_s": "table",
        "flops": "assumed",
        "link_bytes_per_s": "table",
        "link_latency_s": "assumed",
    }


def test_what_is_written_beats_the_table(tmp_path: Path) -> None:
    written = "bandwidth_gb_per_s: 90, tflops: 3, available: 12GB, wired_limit: 14GB"
    text = f"nodes: [{{name: a, chip: M4, memory: 16GB, {written}}}]"
    (node,) = read(tmp_path, text)
    assert (node.bandwidth_bytes_per_s, node.flops) == (90e9, 3e12)
    assert (node.available_bytes, node.wired_limit_bytes) == (12 * GIB, 14 * GIB)
    assert set(node.sources.values()) == {"profile"}


def test_a_machine_without_a_known_chip_is_taken_as_written(tmp_path: Path) -> None:
    (node,) = read(tmp_path, "nodes: [{name: box, memory: 24GB, bandwidth_gb_per_s: 20}]")
    assert (node.os, node.wired_limit_bytes, node.flops) == ("Linux", None, None)


def test_nodes_of_one_host_share_it(tmp_path: Path) -> None:
    text = "nodes:\n  - {name: a, memory: 8GB, host: rack}\n  - {name: b, memory: 8GB, host: rack}\n"
    assert {node.host_id for node in read(tmp_path, text)} == {"rack"}


def test_every_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    rows = ("name: a, chip: M9, memory: 16GB", "name: b, memory: lots", "name: c, memory: 8GB, speed: 3")
    text = "nodes:\n" + "".join(f"  - {{{row}}}\n" for row in rows)
    found = problems(tmp_path, text)
    assert [line.partition(": ")[0].rpartition(":")[2].split()[0] for line in found] == ["2", "3", "4"]
    assert "chip 'M9' is not in the table" in found[0]
    assert "or one of: M1, M1 Pro" in found[0]


def test_two_nodes_of_one_name_are_a_mistake(tmp_path: Path) -> None:
    text = "nodes:\n  - {name: a, memory: 8GB}\n  - {name: a, memory: 8GB}\n"
    assert problems(tmp_path, text) == ["/facts.yaml:3: nodes[1].name: 'a' is taken already"]


def test_an_unknown_link_lists_those_that_are_known(tmp_path: Path) -> None:
    assert "1GbE, 2.5GbE, 10GbE" in problems(tmp_path, "nodes: [{name: a, memory: 8GB, link: wifi}]")[0]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        read_facts_file(tmp_path / "none.yaml")
