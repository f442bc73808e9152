"""What the options of `mlxctl bench` mean: suites, numbers, profiles, prompts. Used by `bench` and `bench http`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mlxctl.bench.suites import FULL, QUICK, STANDARD, Suite, only
from mlxctl.cluster import Cluster
from mlxctl.errors import UsageError
from mlxctl.profile import Profile, load_profile

Number = TypeVar("Number", int, float)
MAX_PROMPTS = 1000


def numbers(option: str, text: str | None, kind: Callable[[str], Number]) -> tuple[Number, ...] | None:
    """`128,512` → (128, 512); None if nothing was given. Raises UsageError."""
    if text is None:
        return None
    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 0:
        raise UsageError(f"{option} {text!r} is no list of numbers", hint=f"such as {option} 1,2,4")
    return found


def chosen_suite(quick: bool, full: bool, asked: Mapping[str, Any]) -> Suite:
    """The suite of the flags with what was asked for. Raises UsageError."""
    if quick and full:
        raise UsageError("--quick and --full exclude each other")
    suite = only(QUICK if quick else FULL if full else STANDARD, **asked)
    if suite.least_runs < 1 or suite.least_runs > suite.most_runs:
        raise UsageError(f"--runs {suite.least_runs},{suite.most_runs}: give the least number first, then the most")
    if 0 in suite.streams or 0 in suite.prefill or 0 in suite.rates:
        raise UsageError("prompt lengths, streams and rates are at least 1")
    return suite


def prompt_lines(path: Path) -> tuple[str, ...]:
    """The prompts in `path`, a line each; empty lines are left out. Raises UsageError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read --prompts {path}: {error}") from error
    found = tuple(line.strip() for line in lines if line.strip())
    if not found or len(found) > MAX_PROMPTS:
        raise UsageError(f"--prompts {path} has {len(found)} prompts", hint=f"1 to {MAX_PROMPTS}, a line each")
    return found


def chosen_profile(name: str | None, overrides: Mapping[str, Any], suite: Suite, *, local: bool) -> Profile:
    """The profile to measure. Unless it says how many sequences must fit, as many as the suite has streams."""
    given = {key: value for key, value in overrides.items() if value is not None}
    profile = load_profile(Path(name) if name is not None else None, given)
    profile = profile.emulated_locally() if local else profile
    if "concurrency" not in profile.model_fields_set:
        profile = profile.model_copy(update={"concurrency": max(profile.concurrency, *suite.streams, 1)})
    return profile


def profile_text(name: str | None, profile: Profile) -> str:
    """The text of the profile's file where it is one, else the profile as JSON."""
    if name is not None and (path := Path(name)).is_file():
        return path.read_text(encoding="utf-8")
    return profile.to_json()


def attached_cluster(name: str) -> Cluster:
    """The running cluster `name`; `-` is the only one. Raises NotRunning."""
    return Cluster.attach(None if name == "-" else name)


def check_conflicts(
    attach: str | None, of_private: Mapping[str, object], model: str | None, random_weights: str | None
) -> None:
    """Raises UsageError where one option would silently overrule another."""
    if model is not None and random_weights is not None:
        raise UsageError("--model and --random-weights exclude each other")
    of_private = {**of_private, "--model": model, "--random-weights": random_weights}
    given = [name for name, value in of_private.items() if value]
    if attach is not None and given:
        hint = "a running cluster has its own: leave it out, or leave out --attach"
        raise UsageError(f"--attach and {given[0]} exclude each other", hint=hint)
