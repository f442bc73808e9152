"""The tables are whole, and are searched as a person would."""

from __future__ import annotations

import pytest

from mlxctl.hardware import find_link, find_mac, flops_of, links, mac_chips, wired_limit
from tests.plans import GIB

pytestmark = pytest.mark.unit


def test_every_generation_and_tier_is_there() -> None:
    chips = {row.chip for row in mac_chips()}
    assert chips >= {f"M{n}{tier}" for n in range(1, 6) for tier in ("", " Pro", " Max")}
    assert chips >= {"M1 Ultra", "M2 Ultra", "M3 Ultra"}


def test_figures_are_plausible() -> None:
    for row in mac_chips():
        assert 60e9 <= row.bandwidth_bytes_per_s <= 1e12
        assert 0.2e12 <= row.flops_per_gpu_core <= 3e12
        assert all(8 <= size <= 512 for size in row.memory_gb)
        assert list(row.gpu_cores) == sorted(row.gpu_cores)


@pytest.mark.parametrize(
    ("chip", "memory_gb", "cores", "gb_per_s"),
    [
        ("Apple M4", 16, None, 120),
        ("m2 max", 64, None, 400),
        ("M4 Max", 36, None, 410),
        ("M4 Max", 64, None, 546),
        ("M3 Max", 128, 30, 300),
        ("M3 Max", 20, None, 300),
    ],
)
def test_a_chip_is_found_by_its_name_and_told_apart_by_cores_or_memory(
    chip: str, memory_gb: int, cores: int | None, gb_per_s: int
) -> None:
    mac = find_mac(chip, memory_gb * GIB, cores)
    assert mac is not None and mac.bandwidth_bytes_per_s == gb_per_s * 1e9


def test_an_unknown_chip_is_not_guessed() -> None:
    assert find_mac("AMD EPYC", 16 * GIB) is None


def test_unknown_gpu_cores_count_as_the_fewest_sold() -> None:
    mac = find_mac("M4 Pro", 24 * GIB)
    assert mac is not None and flops_of(mac, None) == flops_of(mac, 16) < flops_of(mac, 20)


@pytest.mark.parametrize("name", ["1GbE", "10gbe", "Thunderbolt 4", "thunderbolt5"])
def test_links_are_found_by_name(name: str) -> None:
    assert find_link(name) in links()


def test_an_unknown_link_is_not_guessed() -> None:
    assert find_link("carrier pigeon") is None


def test_macos_lets_the_gpu_wire_two_thirds_or_three_quarters() -> None:
    assert wired_limit(16 * GIB) == (16 * GIB * 2 // 3, "assumed")
    assert wired_limit(64 * GIB) == (48 * GIB, "assumed")
    assert wired_limit(64 * GIB, set_mb=57344) == (56 * GIB, "measured")
