"""A scripted API for the tests of the chat client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scripted_api import ScriptedApi, serve


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with serve() as scripted:
        yield scripted
