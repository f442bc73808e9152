"""Batches are documents end to end, each with its own positions."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from mlxctl.canary import MODEL_DIR
from mlxctl.canary.training.batches import Batch, make_batch
from mlxctl.canary.training.encoding import Encoder

pytestmark = pytest.mark.unit
SIZE_TOKENS = 4096


@pytest.fixture(scope="module")
def batch() -> Batch:
    return make_batch(Encoder(MODEL_DIR / "tokenizer.json"), Random(3), SIZE_TOKENS)


def test_a_batch_has_exactly_the_size_asked_for(batch: Batch) -> None:
    assert batch.tokens.shape == batch.positions.shape == (SIZE_TOKENS,)


def test_positions_start_again_with_every_document(batch: Batch) -> None:
    starts = np.unique(batch.starts)
    assert starts[0] == 0
    assert starts[-1] == SIZE_TOKENS
    assert (batch.positions[starts[:-1]] == 0).all()


def test_no_document_learns_its_first_token(batch: Batch) -> None:
    assert not np.isin(batch.learnt + 1, batch.starts).any()
