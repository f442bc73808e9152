"""YAML text → plain data, knowing the line of everything, and every mistake of form. Called by profile.load.

Plain data means dict, tuple, str, int, float, bool and None. Only mappings, lists and scalars: tags, anchors and
aliases are refused, so that a profile is what it looks like, and small.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import yaml

from mlxctl.errors import Problem, ProfileError
from mlxctl.profile.values import shown

MAX_FILE_BYTES = 64 * 1024
MAX_DEPTH = 16

Location = tuple[str | int, ...]

_PLAIN_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_INT, _FLOAT, _BOOL, _NULL = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null"))


@dataclass(frozen=True, slots=True)
class Document:
    """One profile as written. `lines` and `texts` (unquoted scalars, verbatim) are by location in `data`."""

    file: str
    data: dict[str, object]
    lines: dict[Location, int] = field(default_factory=dict)
    texts: dict[Location, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def line(self, location: Location) -> int | None:
        """The line of `location`, or of the nearest thing around it."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location)


def dotted(location: Location) -> str:
    """`("nodes", 1, "memory")` as `nodes[1].memory`, on one short line whatever the keys are."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in location)
    return "".join(parts).removeprefix(".")


def parse_document(raw: bytes, file: str) -> Document:
    """Read one YAML mapping. Mistakes that leave no data to look at raise ProfileError, the others are returned."""
    text = _decode(raw, file)
    loader = _load(text, file)
    root, problems = loader.root, loader.problems
    if root is None or root.tag == _NULL:
        problems.append(Problem(file, None, "", "the profile is empty", "it needs at least name and nodes"))
    elif not isinstance(root, yaml.MappingNode):
        problems.append(Problem(file, _line(root), "", "a profile is a mapping, one `key: value` a line"))
    else:
        reader = _Reader(loader, file)
        data = reader.mapping(root, ())
        return Document(file, data, reader.lines, reader.texts, (*problems, *reader.problems))
    raise ProfileError(problems)


class _Loader(yaml.SafeLoader):
    """Composes one node graph without anchors, aliases and tags; notes where they were."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self.problems: list[Problem] = []
        self.root: yaml.Node | None = None
        self._file = file
        self._depth = 0

    def compose_single(self) -> None:
        """Read the first document; a second one is a mistake."""
        self.get_event()  # type: ignore[no-untyped-call]  # the stream's start
        if self.check_event(yaml.StreamEndEvent):
            return
        self.root = self.compose_document()
        if not self.check_event(yaml.StreamEndEvent):
            self._note(self._peek(), "a second document begins here", "one profile a file")

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self._peek()
        if self.check_event(yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            self._note(event, f"aliases (*{_key(event.anchor)}) are not allowed", "write the value out")
            return yaml.ScalarNode(_NULL, "", event.start_mark, event.end_mark)
        self._strip(event)
        if self._depth == MAX_DEPTH:
            raise _TooDeep(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _strip(self, event: Any) -> None:
        if event.anchor is not None:
            self._note(event, f"anchors (&{_key(event.anchor)}) are not allowed", "remove it")
            event.anchor = None
        if event.tag is not None:
            self._note(event, f"tags ({shown(event.tag)}) are not allowed", "remove it, and quote what is text")
            event.tag = None
            event.implicit = (True, False) if isinstance(event, yaml.ScalarEvent) else True

    def _peek(self) -> Any:
        return self.peek_event()  # type: ignore[no-untyped-call]

    def _note(self, event: Any, message: str, suggestion: str) -> None:
        self.problems.append(Problem(self._file, event.start_mark.line + 1, "", message, suggestion))


class _TooDeep(yaml.MarkedYAMLError):
    """Stops composing before Python's own recursion limit does."""


class _Reader:
    """Turns the node graph into plain data; notes lines, verbatim texts and mistakes of form."""

    def __init__(self, loader: _Loader, file: str) -> None:
        self.lines: dict[Location, int] = {}
        self.texts: dict[Location, str] = {}
        self.problems: list[Problem] = []
        self._loader = loader
        self._file = file

    def mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, object]:
        data: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, location)
            if key is None:
                continue
            here = (*location, key)
            if key in data:
                first = f"is given twice, first on line {self.lines[here]}"
                self._note(key_node, here, first, "keep one of them")
                continue
            self.lines[here] = _line(key_node)
            data[key] = self._value(value_node, here)
        return data

    def _key(self, node: yaml.Node, location: Location) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._note(node, location, "a key must be text, not a list or mapping")
        elif node.tag in (_INT, _FLOAT, _BOOL, _NULL):
            self._note(node, location, f"the key {shown(node.value)} is not text in YAML", quoted(node.value))
        elif not node.value.isprintable():
            self._note(node, location, f"the key {shown(node.value)} has characters that cannot be printed")
        else:
            return str(node.value)
        return None

    def _value(self, node: yaml.Node, location: Location) -> object:
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._item(item, (*location, index)) for index, item in enumerate(node.value))
        assert isinstance(node, yaml.ScalarNode)
        if node.style is None:
            self.texts[location] = node.value
        return self._scalar(node, location)

    def _item(self, node: yaml.Node, location: Location) -> object:
        self.lines[location] = _line(node)
        return self._value(node, location)

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> object:
        if node.tag == _NULL:
            return None
        if node.tag == _INT:
            return self._integer(node, location)
        if node.tag in (_FLOAT, _BOOL):
            return self._loader.construct_object(node)
        if not node.value.isprintable():
            self._note(node, location, f"{shown(node.value)} has characters that cannot be printed")
        return str(node.value)

    def _integer(self, node: yaml.ScalarNode, location: Location) -> int:
        """YAML 1.1 also reads 0100 as 64, 1_000 as 1000 and 1:30 as 90: nobody means that."""
        if _PLAIN_INTEGER.fullmatch(node.value):
            return int(node.value)
        self._note(
            node, location, f"{shown(node.value)} is an odd number in YAML", f"digits only, or {quoted(node.value)}"
        )
        return 1  # an innocent value: this mistake is noted already

    def _note(self, node: yaml.Node, location: Location, message: str, suggestion: str | None = None) -> None:
        self.problems.append(Problem(self._file, _line(node), dotted(location), message, suggestion))


def quoted(text: str) -> str:
    """The advice to write `text` in quotes."""
    return f"quote it: {json.dumps(text[:40], ensure_ascii=False)}" if text.isprintable() else "quote it"


def _decode(raw: bytes, file: str) -> str:
    if len(raw) > MAX_FILE_BYTES:
        raise ProfileError([Problem(file, None, "", f"is larger than {MAX_FILE_BYTES // 1024} KiB: not a profile")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 text (byte {raw[error.start]:#04x})"
        raise ProfileError([Problem(file, line, "", message, "save it as UTF-8")]) from error


def _load(text: str, file: str) -> _Loader:
    try:
        loader = _Loader(text, file)
        loader.compose_single()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ProfileError([Problem(file, line, "", f"character {error.character:#x} is not allowed")]) from error
    except yaml.MarkedYAMLError as error:
        raise ProfileError([_syntax_problem(error, file)]) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML lets int() and chr() fail
        raise ProfileError(
            [Problem(file, None, "", "is not valid YAML: a number or \\U escape in it is absurd")]
        ) from error
    return loader


def _syntax_problem(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    what = " ".join(part for part in (error.context, error.problem) if part)
    what = "".join(c if c.isprintable() else " " for c in what)
    suggestion = "indent with spaces, not tabs" if "'\\t'" in what else None
    prefix = "" if isinstance(error, _TooDeep) else "is not valid YAML: "
    return Problem(file, mark.line + 1 if mark else None, "", prefix + what, suggestion)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _key(key: Hashable) -> str:
    text = str(key)
    return text if len(text) <= 40 and text.isprintable() and text else shown(text)
