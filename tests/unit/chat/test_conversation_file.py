"""A saved conversation comes back as it was; anything else is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.chat.conversation import Conversation
from mlxctl.chat.conversation_file import MAX_FILE_BYTES, load, save
from mlxctl.chat.settings import Settings
from mlxctl.errors import UsageError

pytestmark = pytest.mark.unit

CONVERSATION = Conversation(system="be brief", settings=Settings(temperature=0.3, seed=1, think=None))
TALK = CONVERSATION.ask("Grüße, 世界").answered("hello", "they greet").ask("and?")


def test_a_conversation_survives_the_file(tmp_path: Path) -> None:
    save(TALK, tmp_path / "talk.json", "canary")
    assert load(tmp_path / "talk.json") == TALK


def test_the_file_names_its_schema_and_model(tmp_path: Path) -> None:
    save(TALK, tmp_path / "talk.json", "canary")
    document = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert (document["schema"], document["model"]) == ("mlxctl.conversation/1", "canary")


def test_saving_again_replaces_the_conversation(tmp_path: Path) -> None:
    save(TALK, tmp_path / "talk.json", "canary")
    save(CONVERSATION, tmp_path / "talk.json", "canary")
    assert load(tmp_path / "talk.json") == CONVERSATION


def test_saving_never_replaces_another_file(tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("precious", encoding="utf-8")
    with pytest.raises(UsageError, match="is not a conversation"):
        save(TALK, notes, "canary")
    assert notes.read_text(encoding="utf-8") == "precious"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*nowhere"):
        save(TALK, tmp_path / "nowhere" / "talk.json", "canary")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*missing.json"):
        load(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "mlxctl.conversation/9"}, "schema"),
        ({"messages": [{"role": "judge", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "take turns"),
        ({"messages": [{"role": "user", "content": "x"}] * 2}, "take turns"),
        ({"settings": {"temperature": 99}}, "temperature"),
        ({"settings": {"warmth": 1}}, "warmth"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_it(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "talk.json"
    path.write_text(json.dumps({"schema": "mlxctl.conversation/1", "messages": [], **change}), encoding="utf-8")
    with pytest.raises(UsageError, match=reason) as caught:
        load(path)
    assert "\n" not in caught.value.line


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(UsageError, match="larger than"):
        load(path)


@given(content=st.binary() | st.text('[]{}":,0').map(str.encode))
def test_arbitrary_bytes_are_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("talk") / "talk.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert "\n" not in caught.value.line


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(UsageError, match="is not a conversation"):
        load(path)
