"""What a loaded profile can do: emulate, shrink, travel as JSON, be compared, read its key."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from mlxctl.errors import ProfileError, UsageError
from mlxctl.profile import Api, Node, Placement, Profile, load_profile
from mlxctl.profile.values import GIB

pytestmark = pytest.mark.unit


def profile(**changes: object) -> Profile:
    nodes = (Node(name="a", host="mini1.local", memory_bytes=16 * GIB), Node(name="b", host="mini2.local", user="me"))
    return Profile.model_validate({"name": "x", "nodes": nodes, **changes})


def packaged(name: str) -> Profile:
    return load_profile(Path(name), environment={})


def test_emulating_locally_keeps_names_and_memory_and_nothing_of_the_way_there() -> None:
    remote, local = packaged("mixed"), packaged("mixed").emulated_locally()
    assert all(node.is_local for node in local.nodes)
    for field in ("name", "memory_bytes", "memory_reserve_bytes"):
        assert [getattr(node, field) for node in local.nodes] == [getattr(node, field) for node in remote.nodes]
    assert {(n.user, n.ssh_port, n.identity_file, n.data_address, n.python) for n in local.nodes} == {
        (None, 22, None, None, None)
    }


def test_an_emulated_profile_is_still_a_valid_one() -> None:
    local = packaged("mixed").emulated_locally()
    assert Profile.from_json(local.to_json()) == local


def test_the_first_devices_keep_their_pins_and_the_others_go() -> None:
    pinned = profile(placement={"layers": {"a": 3, "b": 5}}).first(1)
    assert [node.name for node in pinned.nodes] == ["a"]
    assert pinned.placement.layers == {"a": 3}


@pytest.mark.parametrize("devices", [0, -1, 3])
def test_more_devices_than_there_are_or_none_is_a_usage_error(devices: int) -> None:
    with pytest.raises(UsageError, match="profile x has 2"):
        profile().first(devices)


@pytest.mark.parametrize("name", ["local", "4xm4", "mixed"])
def test_a_profile_survives_json(name: str) -> None:
    before = packaged(name)
    after = Profile.from_json(before.to_json())
    assert (after, after.hash) == (before, before.hash)


def test_json_tells_what_was_asked_for_from_defaults() -> None:
    before = profile(api={"port": 9000})
    after = Profile.from_json(before.to_json())
    assert after.model_fields_set == before.model_fields_set == {"name", "nodes", "api"}
    assert after.api.model_fields_set == {"port"}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "x", "nodes": [], "new": 1}', "\x00"])
def test_json_of_something_else_is_a_profile_error(text: str) -> None:
    with pytest.raises(ProfileError, match=r"profile\.json"):
        Profile.from_json(text)


def test_a_profile_is_frozen() -> None:
    with pytest.raises(ValidationError):
        profile().name = "y"


def test_code_cannot_build_a_profile_whose_parts_disagree() -> None:
    with pytest.raises(ValidationError, match="taken by an earlier node"):
        Profile(name="x", nodes=(Node(name="a", host="h"), Node(name="a", host="h")))


def test_equal_profiles_have_equal_hashes_whatever_was_written_out() -> None:
    assert profile().hash == profile(context=None, grpc_port=50100).hash


def test_the_hash_is_64_hex_digits() -> None:
    assert re.fullmatch("[0-9a-f]{64}", profile().hash)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"context": 8192}, "context: default -> 8192"),
        ({"model": "org/m"}, "model: canary -> org/m"),
        ({"api": {"port": 9000}}, "api.port: 8100 -> 9000"),
        ({"placement": {"layers": {"a": 3}}}, "placement.layers.a: - -> 3"),
        ({"nodes": (Node(name="a", host="h"),)}, "nodes: a, b -> a"),
    ],
)
def test_a_difference_is_one_readable_line_and_another_hash(change: dict[str, object], line: str) -> None:
    assert line in profile().difference(profile(**change))
    assert profile().hash != profile(**change).hash


def test_the_difference_of_nodes_goes_by_name() -> None:
    nodes = (Node(name="a", host="mini1.local", memory_bytes=24 * GIB), Node(name="b", host="mini2.local", user="you"))
    assert profile().difference(profile(nodes=nodes)) == ["nodes.a.memory: 16GB -> 24GB", "nodes.b.user: me -> you"]


def test_a_pin_that_goes_is_a_difference() -> None:
    assert profile(placement={"layers": {"a": 3}}).difference(profile()) == ["placement.layers.a: 3 -> -"]


def test_the_order_of_nodes_is_a_difference() -> None:
    assert profile().difference(profile(nodes=profile().nodes[::-1])) == ["nodes: a, b -> b, a"]


def test_equal_profiles_do_not_differ() -> None:
    assert profile().difference(profile()) == []


def test_placement_defaults_are_not_shared() -> None:
    assert Placement().layers is not Placement().layers


class TestApi:
    def test_no_file_means_no_key(self) -> None:
        assert Api().read_key() is None and Api().serving_key() is None

    def test_the_key_to_serve_with_is_made_and_then_read_by_clients(self, tmp_path: Path) -> None:
        api = Api(api_key_file=tmp_path / "key")
        assert api.serving_key() == api.read_key()

    @pytest.mark.parametrize(
        "origin", ["https://chat.example", "http://localhost:3000", "http://[::1]:3000", "app://notes"]
    )
    def test_an_origin_is_scheme_and_host(self, origin: str) -> None:
        assert Api(cors_origins=(origin,)).cors_origins == (origin,)

    @pytest.mark.parametrize("text", ["*", "null", "chat.example", "https://chat.example/", "https://a/b", "HTTPS://A"])
    def test_anything_else_is_no_origin(self, text: str) -> None:
        with pytest.raises(ValidationError, match="is not an origin"):
            Api(cors_origins=(text,))
