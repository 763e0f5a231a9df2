"""Folds over a frozen BERT read the texts once."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from word_pieces import word_pieces

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import TextPreprocessing
from jaxdl.models import Entry
from jaxdl.models.bert import Bert
from jaxdl.weights.checkpoint import from_model

seen: list[np.ndarray] = []


class Seen(nn.Module):
    """Nothing but a report, on the host, of the tokens that pass."""

    @nn.compact
    def __call__(self, x, mode):
        jax.debug.callback(lambda tokens, mask: seen.extend(map(tuple, np.where(mask, tokens, 0))), **x)
        return x


class CountingBert(Bert):
    def stages(self):
        return ("seen", Seen), *super().stages()


WORDS = ("a", "good", "day", "bad")
TEXTS = [" ".join(WORDS[(i // 4**place) % 4] for place in range(3 + i % 4)) for i in range(64)]


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setitem(jaxdl.MODELS, "counting_bert", Entry(CountingBert, length=8))
    content = TextPreprocessing(word_pieces(tmp_path), 8)
    model = CountingBert(2, vocabulary=content.vocabulary, width=8, depth=2, num_heads=2, longest=8)
    made = from_model(model, content)
    jax.effects_barrier()
    seen.clear()  # of what passed to make the variables
    return made


def passes():
    """How often each text went through the network, padding of batches aside."""
    jax.effects_barrier()
    texts = [np.array(row)[np.array(row) > 0] for row in seen]
    return len(texts), len({text.tobytes() for text in texts})


def test_five_folds_and_six_epochs_of_a_head_read_each_text_once(checkpoint):
    source = data.texts(TEXTS, [i // 4 % 2 for i in range(64)])
    plan = jaxdl.Plan(epochs=6, batch_size=16, freeze_through="body")
    how = jaxdl.Execution(allow=("near-duplicates", "duplicates"))
    result = jaxdl.cross_validate(checkpoint, source, plan, execution=how)
    assert result.cached
    assert passes() == (64, 64)
