"""Which Python of a node is chosen, and what is said when none will do."""

from __future__ import annotations

import pytest

from mlxctl.launch.provision.pythons import Python, choose, mend, why_none

pytestmark = pytest.mark.unit

BREW = "/opt/homebrew/bin/python3"


def a_python(path: str = BREW, version: str = "3.12.4", **fields: object) -> Python:
    numbers = [int(part) for part in version.split(".")]
    facts: dict[str, object] = {
        "path": path,
        "real": path,
        "version": numbers,
        "implementation": "CPython",
        "machine": "arm64",
        "libc": "",
        "macos": "15.3.1",
        "lacks": [],
        "free_threaded": False,
    }
    return Python(**{**facts, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("python", "fault"),
    [
        (a_python("/usr/bin/python3", "3.9.6"), "/usr/bin/python3 is 3.9.6"),
        (a_python(free_threaded=True), f"{BREW} is free-threaded 3.12.4, for which there are no wheels"),
        (a_python(implementation="PyPy"), f"{BREW} is PyPy 3.12.4, for which there are no wheels"),
        (a_python(lacks=["ssl", "ctypes"]), f"{BREW} (3.12.4) lacks ssl, ctypes"),
        (a_python(macos="", libc=""), f"{BREW} (3.12.4) is not built for glibc, so there are no wheels"),
        (a_python(machine="x86_64"), f"{BREW} (3.12.4) is built for x86_64, not for Apple silicon"),
    ],
)
def test_a_python_that_will_not_do_says_why(python: Python, fault: str) -> None:
    assert python.fault == fault
    assert choose([python], []) is None
    assert why_none([python], [], None) == f"no Python 3.11 or later there: {fault}"


def test_a_preferred_version_comes_before_a_newer_one() -> None:
    pythons = [a_python("a", "3.14.0"), a_python("b", "3.12.1"), a_python("c", "3.11.9")]
    assert choose(pythons, [(3, 12), (3, 11)]) is pythons[1]
    assert choose(pythons, [(3, 11), (3, 12)]) is pythons[2]


def test_without_a_preference_the_newest_that_has_wheels_is_taken() -> None:
    pythons = [a_python("a", "3.11.9"), a_python("b", "3.15.0"), a_python("c", "3.14.1")]
    assert choose(pythons, []) is pythons[2]
    assert choose(pythons[1:2], []) is pythons[1]


def test_a_mac_s_and_a_linux_machine_s_wheels_follow_from_its_python() -> None:
    mac, linux = a_python().target, a_python(macos="", libc="2.36", machine="x86_64").target
    assert str(mac) == "macos-15.0-arm64, Python 3.12"
    assert str(linux) == "linux-2.36-x86_64, Python 3.12"


def test_nothing_broken_and_missing_are_told_apart() -> None:
    assert why_none([], [], None) == "no Python 3.11 or later there, nor an older one"
    assert why_none([], ["/x/python3"], None) == "no Python 3.11 or later there: /x/python3 does not start"
    assert why_none([], [], "/x/python3") == "the profile's python, /x/python3, is not there"


def test_the_mend_is_the_system_s_own() -> None:
    assert "brew install" in mend("Darwin") and "apt-get" in mend("Linux")
