"""Two texts that are read together: classes and numbers of pairs, by folds."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from word_pieces import PIECES, word_pieces

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import TextPreprocessing

WORDS = [word for word in PIECES[5:] if word[0].isalpha()]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A small BERT that is told which text a token is of."""
    content = word_pieces(tmp_path_factory.mktemp("pairs"))
    model = jaxdl.create(
        "bert_tiny", 2, vocabulary=len(PIECES), width=16, depth=1, num_heads=2, longest=12, pool="mean"
    )
    return jaxdl.from_model(model, TextPreprocessing(content, 12, types=True))


def _pairs(count, seed=0):
    """Two words for each text, and how many of them the two have in common."""
    rng = np.random.default_rng(seed)
    held = [[rng.choice(WORDS, 2, replace=False) for _ in range(2)] for _ in range(count)]
    common = np.array([len(set(one) & set(two)) for one, two in held])
    return [(" ".join(one), " ".join(two)) for one, two in held], common


def test_how_alike_two_texts_are_is_a_number_with_correlations(encoder):
    pairs, common = _pairs(30)
    plan = jaxdl.Plan(epochs=1, batch_size=10)
    allow = jaxdl.Execution(allow=("duplicates", "near-duplicates"), fold_strategy="loop")
    result = jaxdl.cross_validate(encoder, data.texts(pairs, common.astype(float)), plan, folds=3, execution=allow)
    held = result.out_of_fold
    assert (result.task, held.kept.shape) == ("regression", (30, 1))
    for name, theirs in (("pearson", pearsonr), ("spearman", spearmanr)):
        each = [theirs(held.kept[held.fold == k, 0], held.target[held.fold == k])[0] for k in range(3)]
        assert result.metrics["pooled"][name] == pytest.approx(np.mean(each), abs=1e-6)
        assert jaxdl.interval(result, metric=name).estimate == pytest.approx(np.mean(each), abs=1e-6)
    assert result.baselines[0]["folds"]["spearman"] == [0, 0, 0]


@pytest.mark.slow
def test_a_network_learns_which_of_two_texts_a_word_stands_in(encoder):
    """Which the tokens say only with the number of the text that each is of."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 200).astype(bool)
    plain = [word for word in WORDS if word != "good"]
    texts = [[f"{rng.choice(plain)} {rng.choice(plain)}", f"good {rng.choice(plain)}"] for _ in first]
    pairs = [(two, one) if begins else (one, two) for (one, two), begins in zip(texts, first, strict=True)]
    source = data.texts(pairs, np.array(["second", "first"])[first.astype(int)])
    allow = jaxdl.Execution(allow=("duplicates", "near-duplicates"), fold_strategy="loop")
    plan = jaxdl.Plan(epochs=20, batch_size=25, learning_rate=1e-2)
    result = jaxdl.cross_validate(encoder, source, plan, folds=2, execution=allow)
    assert result.task == "classification"
    assert result.mean > 0.9
