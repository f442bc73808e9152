"""Hosts as typed, and the profile that is written of what they turned out to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxctl.errors import UsageError
from mlxctl.launch.doctor.system import System, read_system
from mlxctl.launch.draft import Draft, node_names, parse_host, write_profile
from mlxctl.profile import load_profile
from tests.unit.launch.doctor.mac_samples import LAPTOP, STUDIO

pytestmark = pytest.mark.unit


def a_draft(host: str = "mini1.local", host_name: str = "mini1", **fields: Any) -> Draft:
    return Draft(parse_host(host), host_name, "/usr/bin/python3", fields.get("system"), fields.get("address", ""))


def mac(outputs: dict[str, str]) -> System:
    system = read_system({"system": "darwin", "outputs": outputs})
    assert system is not None
    return system


@pytest.mark.parametrize(
    ("text", "host", "user", "port"),
    [
        ("mini1.local", "mini1.local", None, 22),
        ("me@10.0.0.2:2222", "10.0.0.2", "me", 2222),
        ("localhost", "localhost", None, 22),
        ("me@[fe80::1%en0]:22", "fe80::1%en0", "me", 22),
        ("2001:db8::30", "2001:db8::30", None, 22),
    ],
)
def test_a_host_is_read_as_ssh_takes_it(text: str, host: str, user: str | None, port: int) -> None:
    node = parse_host(text)
    assert (node.host, node.user, node.ssh_port) == (host, user, port)


@pytest.mark.parametrize("text", ["", "a b", "me@", "me@a@b", "host:99999", "-oProxyCommand=x", "ssh://host"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_host(text)


def test_nodes_are_called_what_the_machines_call_themselves_each_once() -> None:
    drafts = [a_draft(host_name="Mini.local"), a_draft(host_name="mini"), a_draft("10.0.0.2", "10.0.0.2")]
    assert node_names(drafts) == ["Mini", "mini-2", "node"]


def test_a_reserved_name_is_not_given() -> None:
    assert node_names([a_draft(host_name="coordinator")]) == ["node"]


def test_the_profile_says_what_was_typed_and_is_one_that_up_takes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    drafts = [a_draft("me@10.0.0.2:2222", "yes", system=mac(STUDIO)), a_draft("on", "mini")]
    path.write_text(write_profile("mine", "mlx-community/Qwen3-1.7B-8bit", drafts))
    profile = load_profile(path, environment={})
    assert [(node.name, node.host, node.user, node.ssh_port) for node in profile.nodes] == [
        ("yes", "10.0.0.2", "me", 2222),
        ("mini", "on", None, 22),
    ]
    assert (profile.name, profile.model) == ("mine", "mlx-community/Qwen3-1.7B-8bit")


def test_the_profile_tells_what_each_machine_is() -> None:
    text = write_profile("mine", "canary", [a_draft(system=mac(STUDIO), address="10.0.0.21")])
    assert "# Apple M2 Ultra, 64 GiB of memory, 45 GiB free, /usr/bin/python3, reached by ethernet (en0)" in text


def test_a_faster_network_is_proposed_as_data_address() -> None:
    by_cable = write_profile("mine", "canary", [a_draft(system=mac(STUDIO), address="10.0.0.21")])
    assert "# data_address: 192.168.101.1    # Thunderbolt bridge (bridge0): faster" in by_cable
    assert "10.0.0.121" not in by_cable
    by_air = write_profile("mine", "canary", [a_draft(system=mac(STUDIO), address="10.0.0.121")])
    assert "# data_address: 10.0.0.21    # ethernet (en0): faster" in by_air
    alone = write_profile("mine", "canary", [a_draft(system=mac(LAPTOP), address="10.0.0.30")])
    assert "data_address" not in alone


@pytest.mark.parametrize("name", ["yes", "null", "1", "a.b", "0x1f"])
def test_names_that_yaml_reads_as_something_else_are_quoted(name: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(write_profile(name, "canary", [a_draft()]))
    assert load_profile(path, environment={}).name == name
