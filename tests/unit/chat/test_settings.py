"""Settings are checked where they are typed, and only what was set is sent."""

from __future__ import annotations

import pytest

from mlxctl.chat.settings import Settings, show
from mlxctl.errors import UsageError

pytestmark = pytest.mark.unit


def test_by_default_only_the_wish_not_to_think_is_sent() -> None:
    assert Settings().request_fields() == {"chat_template_kwargs": {"enable_thinking": False}}


def test_a_default_think_sends_nothing_at_all() -> None:
    assert Settings(think=None).request_fields() == {}


def test_what_is_set_is_sent() -> None:
    settings = Settings().with_value("temperature", "0").with_value("seed", "7").with_value("think", "on")
    assert settings.request_fields() == {
        "temperature": 0.0,
        "seed": 7,
        "chat_template_kwargs": {"enable_thinking": True},
    }


def test_default_takes_a_setting_back() -> None:
    assert Settings(temperature=1.0).with_value("temperature", "default").temperature is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temperature", "2.1"),
        ("temperature", "nan"),
        ("temperature", "warm"),
        ("top_p", "-0.1"),
        ("top_k", "1.5"),
        ("max_tokens", "0"),
        ("seed", "-1"),
        ("think", "maybe"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=name):
        Settings().with_value(name, text)


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        Settings().with_value("max_token", "5")
    assert caught.value.hint == "did you mean max_tokens?"


@pytest.mark.parametrize("value", [0.1234567, 3, True, False, None])
def test_a_shown_value_reads_back_as_itself(value: float | int | bool | None) -> None:
    name = "think" if value is None or isinstance(value, bool) else "seed" if isinstance(value, int) else "temperature"
    assert getattr(Settings().with_value(name, show(value)), name) == value
