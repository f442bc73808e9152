"""The tokenizer of the canary, for tests of the API without a server."""

from __future__ import annotations

import pytest

from mlxctl.tokenizer import Tokenizer
from tests.api_server import canary_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return canary_tokenizer()
