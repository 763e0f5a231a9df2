"""Whether reviews of films are good or bad, by a published sentence encoder."""

import gzip

import numpy as np
import pytest
from libraries import real_minilm

import jaxdl
from jaxdl import data


@pytest.mark.slow
def test_frozen_features_of_a_sentence_encoder_beat_knowing_nothing(real_data):
    place = real_minilm()
    with gzip.open(real_data / "sst2_train.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    chosen = np.random.default_rng(0).permutation(len(rows))[:300]
    texts, labels = zip(*(rows[i] for i in chosen), strict=True)
    source = data.texts(texts, np.array(labels, int), ("negative", "positive"))
    parent = jaxdl.convert(place, preprocessing={"length": 48}).checkpoint
    probed = jaxdl.probe_checkpoint(parent, source, probing=jaxdl.Probing(heads=("logistic",)), folds=5)
    result = probed.result("logistic")
    found, right = jaxdl.interval(result), np.max(np.bincount(source.targets())) / len(source)
    assert result.baseline["accuracy"] == pytest.approx(right, abs=0.02)
    # the interval of the answer that is always the same
    assert found.low > right + 1.96 * np.sqrt(right * (1 - right) / len(source))
