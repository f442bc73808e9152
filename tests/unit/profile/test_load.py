"""From a file, the environment and flags to a checked profile, or to every mistake at once."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mlxctl.errors import Problem, ProfileError
from mlxctl.profile import Profile, load_profile, packaged_names
from mlxctl.profile.explain import PLANNED_KEYS
from mlxctl.profile.load import MAX_PROBLEMS
from mlxctl.profile.values import GIB, MAX_NODES

pytestmark = pytest.mark.unit

NODES = "nodes: [{name: a, host: localhost}, {name: b, host: localhost}]\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(
    text: str, overrides: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None
) -> Profile:
    path = Path("x.yaml")
    path.write_text(text, encoding="utf-8")
    return load_profile(path, overrides, environment or {})


def problems(
    text: str, overrides: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None
) -> tuple[Problem, ...]:
    with pytest.raises(ProfileError) as caught:
        load(text, overrides, environment)
    return caught.value.problems


def only(text: str) -> Problem:
    (problem,) = problems(text)
    return problem


class TestDefaults:
    def test_a_minimal_profile_gets_the_documented_defaults(self) -> None:
        profile = load("name: x\n" + NODES)
        assert (profile.model, profile.context, profile.concurrency, profile.objective) == (
            "canary",
            None,
            8,
            "throughput",
        )
        assert (profile.api.host, profile.api.port, profile.api.api_key_file) == ("127.0.0.1", 8100, None)
        assert (profile.grpc_port, profile.placement.layers) == (50100, {})

    def test_a_minimal_node_gets_the_documented_defaults(self) -> None:
        node = load("name: x\nnodes: [{name: a, host: mini1.local}]\n").nodes[0]
        assert (node.user, node.ssh_port, node.identity_file, node.data_address, node.python) == (
            None,
            22,
            None,
            None,
            None,
        )
        assert (node.memory_bytes, node.memory_reserve_bytes, node.is_local) == (None, 0, False)

    def test_every_key_of_the_design_is_read(self, folder: Path) -> None:
        profile = load(
            "name: 4xm4\nmodel: mlx-community/Qwen3-1.7B-8bit\ncontext: 8192\nconcurrency: 4\nobjective: latency\n"
            "api: {host: 0.0.0.0, port: 8200, api_key_file: key}\ngrpc_port: 50200\n"
            "nodes:\n  - {name: mini1, host: mini1.local}\n"
            "  - {name: mini2, host: 10.0.0.2, user: me, ssh_port: 2222, identity_file: /k/id,\n"
            "     data_address: 192.168.0.2, memory: 16GB, memory_reserve: 4GB, python: /opt/homebrew/bin/python3}\n"
            "placement: {layers: {mini1: 12}}\n"
        )
        node = profile.nodes[1]
        assert (node.user, node.ssh_port, node.identity_file) == ("me", 2222, Path("/k/id"))
        assert (node.memory_bytes, node.memory_reserve_bytes) == (16 * GIB, 4 * GIB)
        assert (profile.api.api_key_file, profile.placement.layers) == (folder / "key", {"mini1": 12})

    def test_explicit_bytes_are_a_size(self) -> None:
        assert load(f"name: x\nnodes: [{{name: a, host: h, memory: {GIB}}}]\n").nodes[0].memory_bytes == GIB

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", '"::1"'])
    def test_a_loopback_host_is_this_machine(self, host: str) -> None:
        assert load(f"name: x\nnodes: [{{name: a, host: {host}}}]\n").nodes[0].is_local


class TestMistakes:
    """One line of a profile, and what is said of it."""

    @pytest.mark.parametrize(
        ("line", "field", "message", "suggestion"),
        [
            ("nmae: x", "nmae", "not a key", "did you mean name?"),
            ("port: 1", "port", "not a key", "it belongs to api"),
            ("host: h", "host", "not a key", "it belongs to api or a node in nodes"),
            ("memory_bytes: 5", "memory_bytes", "not a key", "known here: name model"),
            ("xyzzy: 1", "xyzzy", "not a key", "known here: name model"),
            ("api: {model: x}", "api.model", "not a key", "it belongs to the top"),
            ("model: yes", "model", "yes reads as true", 'quote it: "yes"'),
            ("model: 10.0", "model", "10.0 reads as a number", 'quote it: "10.0"'),
            ("model: 7", "model", "7 reads as a number", 'quote it: "7"'),
            ("model: [a]", "model", "must be text, not a list", None),
            ("model:", "model", "has no value", "write one"),
            ("model: ''", "model", "not usable", "write some text"),
            ("model: --x", "model", "not usable", "leading dash"),
            ("model: " + "m" * 2000, "model", "longer than", None),
            ("context: 8k", "context", "whole number, not '8k'", "digits only"),
            ("context: '8'", "context", "the text '8'", "without quotes: 8"),
            ("context: 0", "context", "at least 1, not 0", None),
            ("context: 99999999", "context", "at most", None),
            ("context: 8.5", "context", "whole number, not 8.5", None),
            ("concurrency: on", "concurrency", "whole number, not on", None),
            ("concurrency: -1", "concurrency", "at least 1", None),
            ("objective: latencey", "objective", "'throughput' or 'latency'", "did you mean latency?"),
            ("grpc_port: 65536", "grpc_port", "at most 65535", None),
            ("grpc_port: 65535", "grpc_port", "beyond 65535", "a smaller one"),
            ("grpc_port: 8099", "grpc_port", "the API's port 8100 is among", "move one"),
            ("api: {port: 50101}", "api.port", "among the workers' 50100 to 50101", "move one"),
            ("api: {port: '8100'}", "api.port", "the text '8100'", "without quotes"),
            ("api: 8100", "api", "must be a mapping", None),
            ("api: {host: 0.0.0.0}", "api.host", "needs a key", "api_key_file"),
            ("api: {host: '::'}", "api.host", "needs a key", "api_key_file"),
            ("api: {host: a b}", "api.host", "not a host name", None),
            ("api: {api_key_file: ''}", "api.api_key_file", "is not a file", None),
            ("api: {api_key_file: ~nobody-here/k}", "api.api_key_file", "no such user", None),
            ("api: {api_key_file: 5}", "api.api_key_file", "must be text", 'quote it: "5"'),
            ("placement: {layers: {c: 1}}", "placement.layers.c", "no node of this name", None),
            ("placement: {layers: {a: 0}}", "placement.layers.a", "at least 1", "remove it from nodes"),
            ("placement: {layers: {a: 9999}}", "placement.layers.a", "at most", None),
            ("placement: {layers: [a]}", "placement.layers", "must be a mapping", None),
        ],
    )
    def test_a_mistake_is_named_with_line_field_and_suggestion(
        self, line: str, field: str, message: str, suggestion: str | None
    ) -> None:
        problem = only(f"name: x\n{NODES}{line}\n")
        assert (problem.file, problem.line, problem.field) == ("x.yaml", 3, field)
        assert message in problem.message
        assert (suggestion or "") in (problem.suggestion or "")

    @pytest.mark.parametrize(
        ("node", "field", "message", "suggestion"),
        [
            ("mini1", "", "must be a mapping", None),
            ("{host: h}", "name", "is missing", None),
            ("{name: c}", "host", "is missing", "such as host: localhost"),
            ("{name: c, host: }", "host", "has no value", "such as"),
            ("{name: no, host: h}", "name", "no reads as false", 'quote it: "no"'),
            ("{name: c d, host: h}", "name", "must be letters", None),
            ("{name: coordinator, host: h}", "name", "coordinator's log", "another name"),
            ("{name: a, host: h}", "name", "taken by an earlier node", "another name"),
            ("{name: A, host: h}", "name", "as 'a'", "another name"),
            ("{name: c, host: me@h}", "host", "not a host name", "user: me"),
            ("{name: c, host: h, memory: 16}", "memory", "has no unit", "write 16GB"),
            ("{name: c, host: h, memory: 16G}", "memory", "not a size", "write 16GB"),
            ("{name: c, host: h, memory: 0GB}", "memory", "at least 1", None),
            ("{name: c, host: h, memory: yes}", "memory", "whole number", None),
            (
                "{name: c, host: h, memory: 1GB, memory_reserve: 1GB}",
                "memory_reserve",
                "leaves nothing",
                "reserve less",
            ),
            ("{name: c, host: h, ssh_port: 0}", "ssh_port", "at least 1", None),
            ("{name: c, host: h, user: a b}", "user", "not a user name", None),
            ("{name: c, host: h, user: -oX}", "user", "not usable", None),
            ("{name: c, host: h, python: -c}", "python", "not usable", None),
            ("{name: c, host: h, data_address: 1.2.3.400}", "data_address", "not a host name", None),
            ("{name: c, host: localhost, user: me}", "user", "does nothing", "remove it"),
            ("{name: c, host: localhost, ssh_port: 23}", "ssh_port", "does nothing", "remove it"),
            ("{name: c, host: localhost, identity_file: k}", "identity_file", "does nothing", "remove it"),
        ],
    )
    def test_a_mistake_in_a_node_is_named(self, node: str, field: str, message: str, suggestion: str | None) -> None:
        problem = only(f"name: x\nnodes:\n  - {{name: a, host: h}}\n  - {node}\n")
        assert (problem.line, problem.field) == (4, f"nodes[1].{field}".removesuffix("."))
        assert message in problem.message
        assert (suggestion or "") in (problem.suggestion or "")

    @pytest.mark.parametrize("key", sorted(PLANNED_KEYS))
    def test_a_planned_key_is_refused_as_not_yet_supported(self, key: str) -> None:
        problem = only(f"name: x\n{key}: 1\n{NODES}")
        assert (problem.line, problem.field) == (2, key)
        assert "not yet supported" in problem.message

    def test_missing_keys_are_all_named(self) -> None:
        assert [problem.field for problem in problems("model: canary\n")] == ["name", "nodes"]

    @pytest.mark.parametrize(
        ("nodes", "message"),
        [("[]", "at least one node"), ("{a: 1}", "must be a list"), ("", "has no value")],
    )
    def test_nodes_must_be_a_list_of_some(self, nodes: str, message: str) -> None:
        assert message in only(f"name: x\nnodes: {nodes}\n").message

    def test_too_many_nodes_are_refused(self) -> None:
        nodes = "".join(f"  - {{name: n{i}, host: h}}\n" for i in range(MAX_NODES + 1))
        assert "more than 32" in only(f"name: x\nnodes:\n{nodes}").message

    def test_all_mistakes_come_at_once_in_the_order_of_the_file(self) -> None:
        text = "name: a b\nmodel: &m 1.5\ncontext: 0\ncontext: 1\nnodes:\n"
        text += "  - {name: a, host: h:1}\n  - {name: a, host: h}\nplacement: {layers: {b: 0}}\nrecovery: yes\n"
        assert [(problem.line, problem.field) for problem in problems(text)] == [
            (1, "name"),
            (2, ""),
            (2, "model"),
            (3, "context"),
            (4, "context"),
            (6, "nodes[0].host"),
            (7, "nodes[1].name"),
            (8, "placement.layers.b"),
            (8, "placement.layers.b"),
            (9, "recovery"),
        ]

    def test_a_pin_close_to_a_node_is_taken_for_it(self) -> None:
        (problem,) = problems(f"name: x\n{NODES.replace('a,', 'mini1,')}placement: {{layers: {{mini: 1}}}}\n")
        assert problem.suggestion == "did you mean mini1?"

    def test_hundreds_of_mistakes_are_counted_rather_than_listed(self) -> None:
        found = problems("name: x\n" + NODES + "".join(f"k{i}: 1\n" for i in range(200)))
        assert len(found) == MAX_PROBLEMS + 1
        assert "150 more" in found[-1].message


class TestEnvironmentAndFlags:
    def test_environment_beats_the_file_and_flags_beat_both(self) -> None:
        text = f"name: x\ncontext: 1\nconcurrency: 1\nobjective: latency\n{NODES}"
        environment = {"MLXCTL_CONTEXT": "2", "MLXCTL_CONCURRENCY": "2"}
        profile = load(text, {"context": "3"}, environment)
        assert (profile.context, profile.concurrency, profile.objective) == (3, 2, "latency")

    def test_every_variable_reaches_its_field(self) -> None:
        environment = {
            "MLXCTL_MODEL": "org/m",
            "MLXCTL_CONTEXT": "16",
            "MLXCTL_CONCURRENCY": "3",
            "MLXCTL_OBJECTIVE": "latency",
            "MLXCTL_API_HOST": "127.0.0.2",
            "MLXCTL_API_PORT": "9000",
            "MLXCTL_GRPC_PORT": "51000",
        }
        profile = load("name: x\n" + NODES, environment=environment)
        assert (profile.model, profile.context, profile.concurrency, profile.objective) == ("org/m", 16, 3, "latency")
        assert (profile.api.host, profile.api.port, profile.grpc_port) == ("127.0.0.2", 9000, 51000)

    def test_what_a_variable_does_not_override_stays(self) -> None:
        profile = load(f"name: x\napi: {{host: 127.0.0.2}}\n{NODES}", environment={"MLXCTL_API_PORT": "9000"})
        assert (profile.api.host, profile.api.port) == ("127.0.0.2", 9000)

    def test_an_empty_variable_and_a_flag_not_given_change_nothing(self) -> None:
        profile = load(f"name: x\ncontext: 7\n{NODES}", {"context": None}, {"MLXCTL_CONTEXT": ""})
        assert profile.context == 7

    def test_digits_stay_text_where_text_is_meant(self) -> None:
        assert load("name: x\n" + NODES, environment={"MLXCTL_MODEL": "123"}).model == "123"

    def test_a_bad_variable_is_named_rather_than_a_line(self) -> None:
        (problem,) = problems("name: x\n" + NODES, environment={"MLXCTL_CONTEXT": "8k"})
        assert (problem.file, problem.line, problem.field) == ("environment", None, "MLXCTL_CONTEXT")
        assert str(problem).startswith("environment: MLXCTL_CONTEXT: must be a whole number, not '8k'")

    def test_a_bad_flag_is_named_rather_than_the_variable_that_it_beats(self) -> None:
        (problem,) = problems("name: x\n" + NODES, {"api.port": 0}, {"MLXCTL_API_PORT": "-1"})
        assert (problem.file, problem.field, problem.message) == (
            "command line",
            "api.port",
            "must be at least 1, not 0",
        )

    def test_an_open_host_from_the_environment_still_needs_a_key(self) -> None:
        (problem,) = problems("name: x\n" + NODES, environment={"MLXCTL_API_HOST": "0.0.0.0"})
        assert (problem.file, problem.field) == ("environment", "MLXCTL_API_HOST")

    def test_a_section_of_a_wrong_kind_stays_the_files_mistake(self) -> None:
        (problem,) = problems(f"name: x\napi: 5\n{NODES}", environment={"MLXCTL_API_PORT": "9000"})
        assert (problem.file, problem.field) == ("x.yaml", "api")

    def test_an_unknown_override_is_refused(self) -> None:
        (problem,) = problems("name: x\n" + NODES, {"modle": "m"})
        assert (problem.file, problem.suggestion) == ("command line", "did you mean model?")


class TestFinding:
    def test_without_a_path_it_is_the_packaged_local_profile(self) -> None:
        assert load_profile(None, environment={}).name == "local"

    def test_a_variable_names_the_default_profile(self) -> None:
        assert load_profile(None, environment={"MLXCTL_PROFILE": "2xm4"}).name == "2xm4"

    def test_a_given_path_beats_that_variable(self) -> None:
        assert load_profile(Path("4xm4"), environment={"MLXCTL_PROFILE": "2xm4"}).name == "4xm4"

    def test_the_process_environment_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLXCTL_PROFILE", "mixed")
        assert load_profile().name == "mixed"

    @pytest.mark.parametrize(
        "path", ["4xm4", "4xm4.yaml", "profiles/4xm4.yaml", "profiles/4xm4", "./profiles/4xm4.yaml"]
    )
    def test_a_packaged_profile_is_found_by_name_and_by_its_path_in_the_source(self, path: str) -> None:
        assert load_profile(Path(path), environment={}).name == "4xm4"

    def test_a_file_beats_a_packaged_profile(self, folder: Path) -> None:
        (folder / "profiles").mkdir()
        (folder / "profiles" / "4xm4.yaml").write_text("name: mine\n" + NODES)
        assert load_profile(Path("profiles/4xm4.yaml"), environment={}).name == "mine"

    def test_a_folder_of_that_name_does_not_hide_a_packaged_profile(self, folder: Path) -> None:
        (folder / "4xm4").mkdir()
        assert load_profile(Path("4xm4"), environment={}).name == "4xm4"

    def test_a_missing_profile_lists_those_there_are(self) -> None:
        with pytest.raises(ProfileError, match="there is no such profile") as caught:
            load_profile(Path("xyz/abc.yaml"), environment={})
        assert caught.value.problems[0].suggestion == f"packaged profiles: {' '.join(packaged_names())}"

    def test_a_misspelt_profile_gets_a_suggestion(self, folder: Path) -> None:
        (folder / "cluster.yaml").touch()
        with pytest.raises(ProfileError, match=r"did you mean cluster\.yaml\?"):
            load_profile(Path("clutser.yaml"), environment={})

    def test_a_missing_profile_in_the_variable_names_the_variable(self) -> None:
        with pytest.raises(ProfileError, match="environment: MLXCTL_PROFILE: 'nowhere': there is no such profile"):
            load_profile(None, environment={"MLXCTL_PROFILE": "nowhere"})

    @pytest.mark.parametrize("path", ["x\0y", "x" * 5000, "~nobody-here/x.yaml", "a\nb.yaml", "", "."])
    def test_an_impossible_path_is_one_clear_line(self, path: str) -> None:
        with pytest.raises(ProfileError) as caught:
            load_profile(Path(path), environment={})
        assert str(caught.value).isprintable()

    def test_a_file_that_cannot_be_read_says_why(self) -> None:
        with pytest.raises(ProfileError, match="cannot be read: "):
            load_profile(Path("/proc/self/mem"), environment={})


class TestPaths:
    def test_relative_files_are_meant_from_the_profiles_folder(self, folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "x.yaml").write_text("name: x\nnodes: [{name: a, host: h, identity_file: keys/id}]\n")
        assert load_profile(Path("sub/x.yaml"), environment={}).nodes[0].identity_file == folder / "sub" / "keys" / "id"

    def test_a_tilde_is_expanded(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(folder))
        node = load("name: x\nnodes: [{name: a, host: h, identity_file: ~/id}]\n").nodes[0]
        assert node.identity_file == folder / "id"

    def test_a_model_directory_in_the_file_is_meant_from_its_folder(self, folder: Path) -> None:
        (folder / "sub" / "models" / "m").mkdir(parents=True)
        for model in ("./models/m", "models/m", str(folder / "sub" / "models" / "m")):
            (folder / "sub" / "x.yaml").write_text(f"name: x\nmodel: {model}\n{NODES}")
            assert load_profile(Path("sub/x.yaml"), environment={}).model == str(folder / "sub" / "models" / "m")

    def test_a_model_directory_from_a_flag_is_meant_from_here(self, folder: Path) -> None:
        (folder / "m").mkdir()
        assert load("name: x\n" + NODES, {"model": "m"}).model == str(folder / "m")

    def test_a_hub_id_stays_as_it_is(self) -> None:
        assert load(f"name: x\nmodel: org/m\n{NODES}").model == "org/m"

    def test_a_folder_called_canary_does_not_hide_the_built_in_model(self, folder: Path) -> None:
        (folder / "canary").mkdir()
        assert load("name: x\n" + NODES, {"model": "canary"}).model == "canary"


@pytest.mark.parametrize("name", packaged_names())
def test_a_packaged_profile_loads_and_is_named_after_its_file(name: str) -> None:
    assert load_profile(Path(name), environment={}).name == name


def test_the_packaged_profiles_are_those_of_the_design() -> None:
    assert packaged_names() == ("1xm4", "2xm4", "4xm4", "local", "mixed")


@pytest.mark.parametrize(("name", "count"), [("1xm4", 1), ("2xm4", 2), ("4xm4", 4)])
def test_the_mac_profiles_have_as_many_16gb_minis_as_they_say(name: str, count: int) -> None:
    nodes = load_profile(Path(name), environment={}).nodes
    assert [node.memory_bytes for node in nodes] == [16 * GIB] * count


def test_the_local_profile_runs_the_canary_on_this_machine() -> None:
    profile = load_profile(Path("local"), environment={})
    assert profile.model == "canary"
    assert [node.is_local for node in profile.nodes] == [True, True]
