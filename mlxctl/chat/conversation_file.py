"""Conversations as JSON files, for `/save` and `/load` of the REPL."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from mlxctl.chat.conversation import Conversation, Message, Role
from mlxctl.chat.settings import Settings, show
from mlxctl.errors import UsageError

SCHEMA: Literal["mlxctl.conversation/1"] = "mlxctl.conversation/1"
MAX_FILE_BYTES = 16 << 20


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Role
    content: str
    reasoning: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    schema_: Literal["mlxctl.conversation/1"]
    model: str = ""
    system: str = ""
    settings: dict[str, bool | int | float | None] = {}
    messages: list[_Message]


def save(conversation: Conversation, path: Path, model: str) -> None:
    """Write `conversation` to `path`, whole or not at all. Raises UsageError, also where another file would be lost."""
    if path.exists():
        load(path)  # only a conversation may be replaced
    document = {
        "schema": SCHEMA,
        "model": model,
        "system": conversation.system,
        "settings": conversation.settings.as_dict(),
        "messages": [asdict(message) for message in conversation.messages],
    }
    scratch = path.with_name(f".{path.name}.part")
    try:
        scratch.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def load(path: Path) -> Conversation:
    """The conversation in `path`. Raises UsageError if the file cannot be read or is not a conversation of ours."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB: no conversation")
    try:
        document = _parse(content)
        settings = Settings()
        for name, value in document.settings.items():
            settings = settings.with_value(name, show(value))
    except (ValueError, UsageError) as error:
        raise UsageError(f"{path} is not a conversation: {_reason(error)}") from error
    messages = tuple(Message(each.role, each.content, each.reasoning) for each in document.messages)
    if any(message.role != ("user", "assistant")[i % 2] for i, message in enumerate(messages)):
        raise UsageError(f"{path} is not a conversation: user and assistant do not take turns")
    return Conversation(messages, document.system, settings)


def _parse(content: bytes) -> _File:
    fields = from_json(content)  # unlike json.loads it bounds its depth
    if not isinstance(fields, dict):
        raise ValueError("it holds no JSON object")
    return _File.model_validate({"schema_": fields.pop("schema", None), **fields})


def _reason(error: ValueError | UsageError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]).replace("schema_", "schema")
    return f"{place}: {first['msg']}"
