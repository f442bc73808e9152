"""Whatever is in the file, the answer is a profile or clear lines; valid profiles come back as they were written."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxctl.errors import ProfileError
from mlxctl.profile import Profile, load_profile
from mlxctl.profile.values import DEFAULT_SSH_PORT, GIB, MIB, format_size, is_loopback

pytestmark = pytest.mark.unit

RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)

KEYS = ["name", "model", "context", "concurrency", "objective", "api", "host", "port", "api_key_file", "grpc_port"]
KEYS += [
    "nodes",
    "placement",
    "layers",
    "memory",
    "memory_reserve",
    "user",
    "ssh_port",
    "identity_file",
    "data_address",
]
SYNTAX = "{}[]:,-#&*!|>'\"%@` \n\t~?<=\\\0\ud800é"
YAML_BITS = [
    "name: x\n",
    "nodes:\n",
    "- ",
    "{name: a, host: h}",
    "&a ",
    "*a",
    "!!str ",
    "---\n",
    "...\n",
    "<<: ",
    "%YAML 1.1\n",
]

names = st.from_regex(r"[a-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates())
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(KEYS), scalars), inner, max_size=5)
    ),
    max_leaves=12,
)


def answer(raw: bytes, folder: Path) -> Profile | None:
    """The profile in `raw`, or None where it was refused in clear lines."""
    path = folder / "x.yaml"
    path.write_bytes(raw)
    try:
        return load_profile(path, environment={})
    except ProfileError as error:
        assert error.problems
        for problem in error.problems:
            assert str(problem).isprintable(), problem
            assert len(str(problem).removeprefix(str(path))) < 700
        return None


def dumped(data: object) -> bytes:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")


@RELAXED
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_in_clear_lines(tmp_path: Path, raw: bytes) -> None:
    assert answer(raw, tmp_path) is None


@RELAXED
@given(st.lists(st.one_of(st.text(max_size=10), st.text(SYNTAX, max_size=10), st.sampled_from(YAML_BITS)), max_size=20))
def test_arbitrary_text_is_answered_in_clear_lines(tmp_path: Path, pieces: list[str]) -> None:
    answer("".join(pieces).encode("utf-8", "surrogatepass"), tmp_path)


@RELAXED
@given(values)
def test_arbitrary_structures_are_answered_in_clear_lines(tmp_path: Path, data: object) -> None:
    answer(dumped(data), tmp_path)


@st.composite
def nodes(draw: st.DrawFn) -> dict[str, Any]:
    host = draw(st.sampled_from(["localhost", "127.0.0.1", "::1", "mini1.local", "10.0.0.2", "fe80::1%en0"]))
    node: dict[str, Any] = {"host": host}
    memory = draw(st.none() | st.integers(1024, 10**5))
    if memory is not None:
        node["memory"] = f"{memory}MB"
        node["memory_reserve"] = f"{draw(st.integers(0, memory - 1))}MB"
    if not is_loopback(host):
        node |= {"user": draw(names), "ssh_port": draw(st.integers(1, 65535)), "identity_file": "/keys/" + draw(names)}
    return node | draw(st.sampled_from([{}, {"python": "/usr/bin/python3", "data_address": "192.168.0.2"}]))


@st.composite
def profiles(draw: st.DrawFn) -> dict[str, Any]:
    """A valid profile as one would write it."""
    unique = draw(st.lists(names, min_size=1, max_size=6, unique_by=str.casefold))
    data: dict[str, Any] = {
        "name": draw(names),
        "nodes": [{"name": f"n-{name}"} | draw(nodes()) for name in unique],
        "model": draw(st.sampled_from(["canary", "org/model", "/models/m"])),
        "context": draw(st.none() | st.integers(1, 10**6)),
        "concurrency": draw(st.integers(1, 100)),
        "objective": draw(st.sampled_from(["throughput", "latency"])),
        "api": draw(st.sampled_from([{}, {"port": 9000}, {"host": "0.0.0.0", "api_key_file": "/keys/api"}])),
        "grpc_port": draw(st.integers(10_000, 60_000)),
    }
    pinned = draw(st.lists(st.sampled_from(unique), unique=True))
    return data | {"placement": {"layers": {f"n-{name}": draw(st.integers(1, 100)) for name in pinned}}}


@RELAXED
@given(profiles())
def test_a_valid_profile_is_read_as_it_was_written(tmp_path: Path, data: dict[str, Any]) -> None:
    profile = answer(dumped(data), tmp_path)
    assert profile is not None
    for key in ("name", "model", "context", "concurrency", "objective", "grpc_port"):
        assert getattr(profile, key) == data[key]
    assert profile.placement.layers == data["placement"]["layers"]
    for node, written in zip(profile.nodes, data["nodes"], strict=True):
        assert (node.name, node.host, node.user) == (written["name"], written["host"], written.get("user"))
        assert node.ssh_port == written.get("ssh_port", DEFAULT_SSH_PORT)
        assert node.memory_bytes == (int(written["memory"][:-2]) * MIB if "memory" in written else None)


@RELAXED
@given(profiles())
def test_a_valid_profile_survives_yaml_and_json(tmp_path: Path, data: dict[str, Any]) -> None:
    profile = answer(dumped(data), tmp_path)
    assert profile is not None
    again = {key: value for key, value in profile.as_written().items() if value is not None}
    assert answer(dumped(without_nothing(again)), tmp_path) == profile
    assert Profile.from_json(profile.to_json()) == profile
    assert profile.difference(profile) == []


def without_nothing(data: Any) -> Any:
    """`data` without keys whose value is None, and with sizes as one writes them."""
    if isinstance(data, dict):
        return {k: without_nothing(v) for k, v in data.items() if v is not None}
    if isinstance(data, list):
        return [without_nothing(value) for value in data]
    return format_size(data) if isinstance(data, int) and data >= GIB else data


@RELAXED
@given(profiles(), st.data())
def test_a_damaged_profile_is_answered_in_clear_lines(
    tmp_path: Path, data: dict[str, Any], source: st.DataObject
) -> None:
    damaged = copy.deepcopy(data)
    for _ in range(source.draw(st.integers(1, 3))):
        target: Any = source.draw(
            st.sampled_from([damaged, *damaged.get("nodes", ())]) if valid(damaged) else st.just(damaged)
        )
        key = source.draw(st.sampled_from([*target, "extra", "nodes"]))
        if source.draw(st.booleans()):
            target.pop(key, None)
        else:
            target[key] = source.draw(values)
    answer(dumped(damaged), tmp_path)


def valid(data: dict[str, Any]) -> bool:
    nodes = data.get("nodes")
    return isinstance(nodes, list) and bool(nodes) and all(isinstance(node, dict) for node in nodes)


@RELAXED
@given(profiles(), st.data())
def test_a_profile_with_damaged_text_is_answered_in_clear_lines(
    tmp_path: Path, data: dict[str, Any], source: st.DataObject
) -> None:
    raw = dumped(data)
    at = source.draw(st.integers(0, len(raw)))
    junk = source.draw(st.one_of(st.binary(max_size=5), st.sampled_from([bit.encode() for bit in YAML_BITS])))
    answer(raw[:at] + junk + raw[at + source.draw(st.integers(0, 5)) :], tmp_path)


@RELAXED
@given(
    st.dictionaries(
        st.sampled_from(["MLXCTL_MODEL", "MLXCTL_CONTEXT", "MLXCTL_API_PORT", "MLXCTL_API_HOST"]), st.text()
    )
)
def test_arbitrary_variables_are_answered_in_clear_lines(environment: dict[str, str]) -> None:
    try:
        load_profile(None, environment=environment)
    except ProfileError as error:
        assert {problem.file for problem in error.problems} == {"environment"}
        assert all(str(problem).isprintable() for problem in error.problems)
