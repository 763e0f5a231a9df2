"""What is fitted to numbers before they are scored: were the test examples among them, the score would be too good."""

import jax
import numpy as np
import pytest
from sklearn import model_selection as sk
from sklearn.metrics import log_loss

import jaxdl
from jaxdl import data
from jaxdl.data import TablePreprocessing
from jaxdl.models.initialise import init_variables
from jaxdl.validation.splits import split_source
from jaxdl.validation.statistics.metrics import calibrate, fit_temperature
from jaxdl.weights.card import Card


@pytest.mark.slow
def test_normalising_by_the_test_examples_too_would_have_flattered():
    """Instruments of which three drift once training is over: their spread in training says nothing of that later."""
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 2
    signal = (2 * labels - 1)[:, None] + 0.7 * rng.normal(size=(150, 3))
    drifting = np.concatenate([0.01 * rng.normal(size=(100, 3)), rng.normal(size=(50, 3))])
    x = np.concatenate([signal, drifting], axis=1).astype(np.float32)
    source = data.arrays(x, labels)
    split = split_source(source, sk.PredefinedSplit(np.repeat([-1, 0], [100, 50])), 1, 0)
    model, plan = jaxdl.create("mlp", 2, hidden=(16,)), jaxdl.Plan(epochs=20, learning_rate=1e-2)

    def normalised_by(part):
        preprocessing = TablePreprocessing((6,), tuple(part.mean(0).tolist()), tuple(part.std(0).tolist()))
        variables = init_variables(model, jax.random.key(0), (6,))
        checkpoint = jaxdl.Checkpoint(model, variables, Card(preprocessing))
        return jaxdl.cross_validate(checkpoint, source, plan, splitter=split).mean

    honest = jaxdl.cross_validate(model, source, plan, splitter=split, execution=jaxdl.Execution(keep_models=True))
    np.testing.assert_allclose(honest.models[0].card.preprocessing.std, x[:100].std(0), rtol=1e-4)
    by_hand, flattered = normalised_by(x[:100]), normalised_by(x)
    print(f"accuracy {honest.mean:.2f}, by hand {by_hand:.2f}, {flattered:.2f} if the test examples normalise, too")
    assert flattered > 0.9
    assert max(honest.mean, by_hand) < 0.8


@pytest.mark.slow
def test_a_temperature_fitted_to_the_test_examples_would_have_flattered():
    """Labels by lot: no honest probabilities have a lower log loss than those of a coin."""
    rng = np.random.default_rng(0)
    source = data.arrays(rng.normal(size=(80, 10)), rng.permutation(np.arange(80) % 2))
    model, plan = jaxdl.create("mlp", 2, hidden=(16,)), jaxdl.Plan(epochs=20, learning_rate=1e-2)
    result = jaxdl.cross_validate(model, source, plan, folds=20, execution=jaxdl.Execution(fold_strategy="vmap"))
    held = result.out_of_fold
    leaked = np.zeros((80, 2))
    for fold in range(20):
        rows = held.fold == fold
        logits = held.kept[rows].astype(float)
        scaled = logits / fit_temperature(held.target[rows], logits)
        leaked[rows] = np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)
    honest, flattered = calibrate(result)["after"]["log_loss"], log_loss(held.target, leaked)
    print(f"log loss {honest:.3f}, {flattered:.3f} if each fold's own labels set its temperature")
    assert honest > np.log(2) - 0.005
    assert flattered < np.log(2) - 0.02
    assert result.calibration["after"]["log_loss"] == pytest.approx(honest)
