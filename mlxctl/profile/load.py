"""File + environment + flags → Profile, or every mistake at once. Called by each command that takes a profile."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

import mlxctl
from mlxctl.errors import Problem, ProfileError
from mlxctl.profile.checks import Fault, cross_faults
from mlxctl.profile.document import MAX_FILE_BYTES, Document, dotted, parse_document
from mlxctl.profile.environment import PROFILE_VARIABLE, VARIABLES
from mlxctl.profile.explain import explain
from mlxctl.profile.model import Profile
from mlxctl.profile.values import shown

PACKAGED = Path(mlxctl.__file__).parent / "profiles"
DEFAULT_PROFILE = "local"
ENVIRONMENT = "environment"
COMMAND_LINE = "command line"
MAX_PROBLEMS = 50

_DIGITS = re.compile(r"-?(0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that goes over the file's: from the `source`, where it is called `label`."""

    source: str
    label: str
    location: tuple[str, ...]
    value: object


def load_profile(
    path: Path | str | None = None,
    overrides: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Profile:
    """The checked profile at `path`: a file, or the name of a packaged profile (`4xm4`, `profiles/4xm4.yaml`).

    None means MLXCTL_PROFILE, else the packaged `local`. `overrides` (flags; dotted field names, text or typed
    values, None for one not given) beat `environment` (default: the process's) beats the file. Relative paths are meant
    from the file's folder. Raises ProfileError with all mistakes.
    """
    variables = os.environ if environment is None else environment
    file = _find(path, variables)
    document = parse_document(_read(file), str(file))
    settings = [*_from_environment(variables), *_from_flags(overrides or {})]
    data = _anchored_model(_overlaid(document.data, settings), settings, file.parent)
    return _checked(data, document, settings, file.parent)


def packaged_names() -> tuple[str, ...]:
    """Names of the profiles that come with mlxctl."""
    return tuple(sorted(path.stem for path in PACKAGED.glob("*.yaml")))


def _find(path: Path | str | None, variables: Mapping[str, str]) -> Path:
    if path is not None:
        return _located(Path(path), Problem(str(path) if str(path).isprintable() else repr(str(path)), None, "", ""))
    if name := variables.get(PROFILE_VARIABLE):
        return _located(Path(name), Problem(ENVIRONMENT, None, PROFILE_VARIABLE, f"{shown(name)}: "))
    return PACKAGED / f"{DEFAULT_PROFILE}.yaml"


def _located(path: Path, problem: Problem) -> Path:
    """`path` if it is there, or the packaged profile that it names; `problem` says where a wrong path came from."""
    try:
        path = path.expanduser()
        if path.exists() and not path.is_dir():
            return path
    except (OSError, RuntimeError, ValueError):
        pass  # a path that cannot be is a path that is not there
    if path.parent in (Path(), Path("profiles")) and path.name.removesuffix(".yaml") in packaged_names():
        return PACKAGED / f"{path.name.removesuffix('.yaml')}.yaml"
    here = [found.name for found in Path().glob("*.yaml")]
    near = difflib.get_close_matches(path.name, [*here, *packaged_names()], 1)
    suggestion = f"did you mean {near[0]}?" if near else f"packaged profiles: {' '.join(packaged_names())}"
    message = f"{problem.message}there is no such profile"
    raise ProfileError([Problem(problem.file, None, problem.field, message, suggestion)])


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ProfileError([Problem(str(file), None, "", f"cannot be read: {error.strerror}")]) from error


def _from_environment(variables: Mapping[str, str]) -> Iterable[Setting]:
    for variable in VARIABLES:
        text = variables.get(variable.name)
        if variable.field and text:
            yield _setting(ENVIRONMENT, variable.name, variable.field, text)


def _from_flags(overrides: Mapping[str, object]) -> Iterable[Setting]:
    for field, value in overrides.items():
        if value is not None:
            yield _setting(COMMAND_LINE, field, field, value)


def _setting(source: str, label: str, field: str, value: object) -> Setting:
    location = tuple(field.split("."))
    if isinstance(value, str) and _is_number_field(Profile, location) and _DIGITS.fullmatch(value):
        value = int(value)
    return Setting(source, label, location, value)


def _is_number_field(part: type[BaseModel], location: Sequence[str]) -> bool:
    field = part.model_fields.get(location[0])
    kind = field.annotation if field else None
    if len(location) > 1:
        return isinstance(kind, type) and issubclass(kind, BaseModel) and _is_number_field(kind, location[1:])
    return kind is int or int in get_args(kind)


def _overlaid(data: Mapping[str, object], settings: Iterable[Setting]) -> dict[str, object]:
    merged = dict(data)
    for setting in settings:
        *sections, key = setting.location
        target = merged
        for section in sections:
            inner = target.get(section, {})
            if not isinstance(inner, dict):  # the file's mistake, reported as such
                break
            target[section] = target = dict(inner)
        else:
            target[key] = setting.value
    return merged


def _anchored_model(data: dict[str, object], settings: Sequence[Setting], folder: Path) -> dict[str, object]:
    """A model that is a directory, as an absolute path: the daemon and the workers run in folders of their own."""
    model = data.get("model")
    if not isinstance(model, str) or model == "canary" or not model or not model.isprintable():
        return data
    base = Path.cwd() if any(setting.location == ("model",) for setting in settings) else folder
    path = os.path.join(base, os.path.expanduser(model))
    if model.startswith(("/", "./", "../", "~")) or os.path.isdir(path):
        return {**data, "model": os.path.abspath(path)}
    return data


def _checked(data: dict[str, object], document: Document, settings: Sequence[Setting], folder: Path) -> Profile:
    problems = list(document.problems)
    profile = None
    try:
        profile = Profile.model_validate(data, by_alias=True, by_name=False, context=folder.absolute())
    except ValidationError as error:
        for details in error.errors(include_url=False):
            if not _is_said_elsewhere(details):
                found = Fault(details["loc"], *explain(details, document.texts.get(details["loc"])))
                problems.append(_problem(found, document, settings))
    problems += [_problem(found, document, settings) for found in cross_faults(data)]
    if profile is None or problems:
        raise ProfileError(_readable(problems))
    return profile


def _is_said_elsewhere(details: ErrorDetails) -> bool:
    """Pydantic counts a list of nodes with mistakes in them as too short."""
    return details["type"] == "cross_check" or (details["type"] == "too_short" and bool(details["input"]))


def _problem(found: Fault, document: Document, settings: Sequence[Setting]) -> Problem:
    for setting in reversed(settings):
        if setting.location == found.location:
            return Problem(setting.source, None, setting.label, found.message, found.suggestion)
    line = document.line(found.location)
    return Problem(document.file, line, dotted(found.location), found.message, found.suggestion)


def _readable(problems: Sequence[Problem]) -> list[Problem]:
    """In the order of the file, and not more than anybody reads."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    if len(ordered) <= MAX_PROBLEMS:
        return ordered
    more = f"and {len(ordered) - MAX_PROBLEMS} more mistakes"
    return [*ordered[:MAX_PROBLEMS], Problem(ordered[0].file, None, "", more)]
