"""Figures are readable, and colour only goes where it is welcome."""

from __future__ import annotations

import io

import pytest

from mlxctl.cli.output import console, format_bytes, format_duration, format_rate, is_fancy, print_json

pytestmark = pytest.mark.unit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def colour_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (3 << 20, "3.0 MiB"),
        (16 << 30, "16.0 GiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_bytes_have_a_binary_unit(count_bytes: int, text: str) -> None:
    assert format_bytes(count_bytes) == text


@pytest.mark.parametrize(
    ("seconds_s", "text"),
    [
        (0.0421, "42 ms"),
        (12.34, "12.3 s"),
        (61, "1 min 01 s"),
        (3661, "1 h 01 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_have_the_unit_that_fits(seconds_s: float, text: str) -> None:
    assert format_duration(seconds_s) == text


def test_rates_are_tokens_per_second() -> None:
    assert format_rate(12.345) == "12.3 tok/s"


def test_a_terminal_gets_colour() -> None:
    stream = Terminal()
    console(stream).print("[red]x[/]")
    assert "\x1b[" in stream.getvalue()


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_user_who_wants_no_colour_gets_none(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    stream = Terminal()
    assert not is_fancy(stream)
    console(stream).print("[bold red]x[/]")
    assert stream.getvalue() == "x\n"


def test_a_pipe_gets_no_colour_and_long_lines() -> None:
    stream = io.StringIO()
    console(stream).print(f"[red]{'x' * 150}[/]")
    assert stream.getvalue() == "x" * 150 + "\n"


def test_json_is_indented_unless_lines_follow_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": "ü"})
    print_json({"a": 1}, one_line=True)
    assert capsys.readouterr().out == '{\n  "a": "ü"\n}\n{"a": 1}\n'
