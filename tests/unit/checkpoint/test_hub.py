"""Models on a hub: known from small files and headers alone, refused in one line where they cannot be read."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxctl.checkpoint import open_weights, read_model_facts, resolve_model
from mlxctl.checkpoint.files import HubCommit, hub_commit
from mlxctl.checkpoint.hub import hub_folder
from mlxctl.checkpoint.resolve import refresh
from mlxctl.errors import AuthenticationError, CheckpointError, HubUnreachable
from mlxctl.hub import client
from tests.hub_server import COMMIT, TOKEN, Fault, HubServer, Repo
from tests.tiny_models import write_checkpoint

pytestmark = pytest.mark.unit

NAME = "someone/tiny"
SHARD = "model-00002-of-00003.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of three files, as its author has them."""
    path = write_checkpoint(tmp_path / "model", "qwen3", files=3)
    (path / "tokenizer_config.json").write_text("{}")
    (path / "README.md").write_text("hello")
    (path / "pytorch_model.bin").write_bytes(b"pickled")
    return path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with that model; this machine knows nothing of it."""
    from huggingface_hub import constants

    monkeypatch.setenv("MLXCTL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with HubServer({NAME: Repo(model)}).serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def serve(hub: HubServer, model: Path, *, gated: bool = False, private: bool = False) -> None:
    hub.repos[NAME] = Repo(model, gated=gated, private=private)


def test_a_model_on_a_hub_is_known_like_one_in_a_folder(hub: HubServer, model: Path) -> None:
    remote, local = read_model_facts(NAME), read_model_facts(model)
    assert (remote.name, remote.revision, remote.has_weights) == (NAME, COMMIT, True)
    assert (remote.layers, remote.legal_cuts, remote.hash) == (local.layers, local.legal_cuts, local.hash)


def test_only_the_beginnings_of_weight_files_are_read(
    hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlxctl.checkpoint.hub.FIRST_BYTES", 64)
    read_model_facts(NAME)
    for file in sorted(model.glob("*.safetensors")):
        (length,) = struct.unpack("<Q", file.read_bytes()[:8])
        assert hub.bytes_of(file.name) == 8 + length < file.stat().st_size


def test_weights_other_than_safetensors_are_never_fetched(hub: HubServer) -> None:
    folder = resolve_model(NAME)
    fetched = {seen.path.rpartition("/")[2] for seen in hub.seen}
    assert not {"pytorch_model.bin", "README.md"} & fetched
    assert (folder / "tokenizer_config.json").read_text() == "{}"


def test_a_model_is_the_commit_that_it_was_at_first(hub: HubServer, model: Path) -> None:
    first = resolve_model(NAME)
    hub.repos[NAME] = Repo(model, "f" * 40)
    hub.seen.clear()
    assert resolve_model(NAME) == first and hub_commit(first) == HubCommit(NAME, COMMIT)
    assert hub.seen == []
    assert refresh(NAME).name == "f" * 40 == resolve_model(NAME).name


def test_a_revision_can_be_asked_for(hub: HubServer) -> None:
    assert resolve_model(f"{NAME}@{COMMIT}").name == COMMIT
    with pytest.raises(CheckpointError, match="no such revision: someone/tiny@other"):
        resolve_model(f"{NAME}@other")


def test_what_the_hugging_face_cache_has_whole_is_used_without_asking(
    hub: HubServer, model: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "cache" / "models--someone--tiny" / "snapshots" / "abc1234"
    shutil.copytree(model, snapshot)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc1234")
    assert resolve_model(NAME) == snapshot
    assert hub.seen == []


def test_a_token_goes_to_the_hub_and_nowhere_else(hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    serve(hub, model, private=True)
    read_model_facts(NAME)
    assert {(seen.server, seen.token) for seen in hub.seen} == {("hub", TOKEN), ("content", None)}


def test_a_gated_model_says_where_to_ask(hub: HubServer, model: Path) -> None:
    serve(hub, model, gated=True)
    with pytest.raises(AuthenticationError) as caught:
        resolve_model(NAME)
    assert caught.value.message == f"{NAME} is gated"
    assert f"ask for access at {hub.endpoint}/{NAME}, then log in" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["someone/else", NAME])
def test_a_missing_model_and_a_private_one_look_the_same(name: str, hub: HubServer, model: Path) -> None:
    serve(hub, model, private=True)
    with pytest.raises(CheckpointError, match=f"has no model {name}, or hides it") as caught:
        resolve_model(name)
    assert "HF_TOKEN" in str(caught.value.hint)


def test_a_wrong_token_is_said_to_be_wrong_and_not_shown(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(AuthenticationError, match="does not accept the token") as caught:
        resolve_model(NAME)
    assert "hf_wrong" not in str(caught.value)


def test_offline_the_hub_is_not_asked(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids"):
        resolve_model(NAME)
    assert hub.seen == []


def test_a_hub_that_does_not_answer_is_named(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(HubUnreachable, match=r"cannot reach http://127.0.0.1:1 for someone/tiny@main"):
        resolve_model(NAME)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("config.json", times=2, status=503),
        Fault("config.json", times=2, status=429, headers={"Retry-After": "0"}),
        Fault("/api/", times=2, cut_after=10),
        Fault("config.json", times=1, cut_after=10),
        Fault(SHARD, times=2, cut_after=10),
    ],
    ids=["busy", "too many requests", "cut list", "cut file", "cut range"],
)
def test_what_passes_is_tried_again(fault: Fault, hub: HubServer, model: Path) -> None:
    hub.faults.append(fault)
    assert read_model_facts(NAME).hash == read_model_facts(model).hash
    assert fault.times == 0


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("config.json", times=99, status=429), "wants fewer requests"),
        (Fault("config.json", status=429, headers={"Retry-After": "3600"}), "wants fewer requests"),
        (Fault("config.json", times=99, status=500), "answered 500: someone/tiny: config.json"),
        (Fault(SHARD, times=99, cut_after=0), "cannot reach .* for someone/tiny: model-00002-of-00003.safetensors"),
        (Fault(SHARD, times=99, whole=True), "does not send parts of files"),
    ],
)
def test_what_does_not_pass_is_said_in_a_line(fault: Fault, says: str, hub: HubServer) -> None:
    hub.faults.append(fault)
    with pytest.raises(CheckpointError, match=says) as caught:
        resolve_model(NAME)
    assert caught.value.hint and "\n" not in caught.value.message
    assert not (hub_folder(NAME) / "refs").exists()


def rewrite(file: Path, header: object) -> None:
    raw = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * 64)


def test_a_header_of_absurd_length_is_not_read(hub: HubServer, model: Path) -> None:
    (model / SHARD).write_bytes(struct.pack("<Q", 1 << 40) + b"{}" * 500_000)
    with pytest.raises(CheckpointError, match=f"{NAME}: {SHARD} .* claims a header of {1 << 40} bytes"):
        resolve_model(NAME)
    assert hub.bytes_of(SHARD) <= 1 << 17


def test_a_truncated_file_is_named(hub: HubServer, model: Path) -> None:
    data = (model / SHARD).read_bytes()
    (model / SHARD).write_bytes(data[:-100])
    with pytest.raises(CheckpointError, match=f"{NAME}: {SHARD} .* truncated"):
        resolve_model(NAME)


def test_overlapping_tensors_are_named(hub: HubServer, model: Path) -> None:
    entry = {"dtype": "U8", "shape": [40], "data_offsets": [0, 40]}
    rewrite(model / SHARD, {"a": entry, "b": {**entry, "data_offsets": [20, 60]}})
    with pytest.raises(CheckpointError, match=f"{NAME}: {SHARD} .* 'b' overlaps"):
        resolve_model(NAME)


def test_a_missing_shard_is_named(hub: HubServer, model: Path) -> None:
    (model / SHARD).unlink()
    with pytest.raises(CheckpointError, match=f"^{NAME} lacks {SHARD}"):
        resolve_model(NAME)


def test_a_model_without_safetensors_is_refused(hub: HubServer, model: Path) -> None:
    for file in model.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"no model\*.safetensors files, only others such as pytorch_model.bin"):
        resolve_model(NAME)


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("config.json", {"model_type": "own", "model_file": "own.py"}, "own.py"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokenization_own.Own", None]}}, "tokenization_own"),
    ],
)
def test_a_model_that_needs_its_own_code_is_refused_by_name(
    file: str, content: object, code: str, hub: HubServer, model: Path
) -> None:
    (model / file).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"{NAME} needs code of its own to be run .{code}"):
        resolve_model(NAME)


def test_pieces_of_a_commit_are_the_same_whoever_has_the_files(hub: HubServer, model: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "cache" / "models--someone--tiny" / "snapshots" / COMMIT
    remote = open_weights(resolve_model(NAME), NAME, tmp_path, lambda *_: None)
    shutil.copytree(model, snapshot)
    local = open_weights(snapshot, NAME, tmp_path, lambda *_: None)
    assert remote.manifest.key == local.manifest.key
    piece = "model-layer-00003.safetensors"
    assert not remote.is_here(piece) and local.is_here(piece)
    for offset in (0, 5, 3000):
        assert b"".join(remote.chunks(piece, offset)) == b"".join(local.chunks(piece, offset))


def test_an_address_that_expired_is_asked_for_again(hub: HubServer, tmp_path: Path) -> None:
    weights = open_weights(resolve_model(NAME), NAME, tmp_path, lambda *_: None)
    chunks = weights.chunks("model-layer-00003.safetensors")
    next(chunks)
    hub.signature = "second"
    assert sum(len(chunk) for chunk in chunks) > 0


def test_the_hub_s_own_client_takes_it_for_a_hub(
    hub: HubServer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants, hf_hub_download

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for file in ("config.json", SHARD):
        path = hf_hub_download(NAME, file, endpoint=hub.endpoint, cache_dir=tmp_path / "theirs")
        assert Path(path).read_bytes() == (model / file).read_bytes()
