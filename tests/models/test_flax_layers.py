"""Flax's own batch normalisation in a stage: as Flax computes it, over the real examples alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl.errors import InputError
from jaxdl.models.initialise import init_variables

RNG = np.random.default_rng(0)
X = (3 + 2 * RNG.normal(size=(6, 3, 4))).astype(np.float32)


class Normed(nn.Module):
    options: tuple

    @nn.compact
    def __call__(self, x, mode):
        return nn.BatchNorm(**{"use_running_average": not mode.train, **dict(self.options)}, name="norm")(x)


class Top(nn.Module):
    @nn.compact
    def __call__(self, x, mode):
        return x


class One(jaxdl.Staged):
    options: tuple = ()

    def stages(self):
        return ("normed", lambda name: Normed(self.options, name=name)), ("head", Top)


def run(options, x=X, **how):
    model = One(3, options=tuple(options.items()))
    variables = init_variables(model, jax.random.key(0), x.shape[1:])
    drawn = jax.tree.map(lambda a: a + jnp.asarray(np.random.default_rng(1).uniform(0, 1, a.shape), a.dtype), variables)
    y, changed = model.apply(drawn, x, mutable=["batch_stats"], **{"train": True, **how})
    return y, changed["batch_stats"]["normed"]["norm"], drawn


def own(variables):
    return {c: tree["normed"]["norm"] for c, tree in variables.items() if "normed" in tree}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.7, "epsilon": 1e-2},
        {"use_bias": False},
        {"use_scale": False},
        {"use_fast_variance": False},
        {"axis": 1},
        {"axis": (1, 2)},
        {"dtype": "bfloat16"},
        {"axis_name": "nowhere"},
    ],
)
def test_it_is_flaxs_own_on_real_examples(options):
    y, stats, variables = run(options)
    plain = nn.BatchNorm(use_running_average=False, **{k: v for k, v in options.items() if k != "axis_name"})
    wanted, changed = plain.apply(own(variables), X, mutable=["batch_stats"])
    assert y.dtype == wanted.dtype
    np.testing.assert_allclose(y.astype("f"), wanted.astype("f"), atol=1e-2 if "dtype" in options else 2e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), stats, changed["batch_stats"])


def test_padding_does_not_count():
    padded = np.concatenate([X, np.full_like(X[:2], 50)])
    mask = np.arange(8) < 6
    (whole, stats, variables), (out, padded_stats, _) = run({}), run({}, padded, mask=mask)
    np.testing.assert_allclose(out[:6], whole, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), padded_stats, stats)
    _, nothing, _ = run({}, padded, mask=mask & False)
    jax.tree.map(np.testing.assert_array_equal, nothing, own(variables)["batch_stats"])


def test_a_mask_of_the_users_own_counts_too():
    """Of words, say: an example whose words do not count is a row that is not there."""

    class Masked(nn.Module):
        @nn.compact
        def __call__(self, x, mode):
            return nn.BatchNorm(use_running_average=not mode.train, name="norm")(x, mask=x[..., :1] < 40)

    class Two(jaxdl.Staged):
        def stages(self):
            return ("normed", Masked), ("head", Top)

    x = np.concatenate([X, np.full_like(X[:2], 50)])
    x[2, 1] = 50
    variables = init_variables(Two(3), jax.random.key(0), X.shape[1:])
    mask = np.arange(8) != 5
    y, changed = Two(3).apply(variables, x, train=True, mutable=["batch_stats"], mask=mask)
    kept = [x[i, j] for i in range(6) if i != 5 for j in range(3) if (i, j) != (2, 1)]
    mean, var = np.mean(kept, 0), np.var(kept, 0)
    stats = changed["batch_stats"]["normed"]["norm"]
    np.testing.assert_allclose(stats["mean"], 0.01 * mean, rtol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.99 + 0.01 * var, rtol=1e-5)
    np.testing.assert_allclose(y[0], (x[0] - mean) / np.sqrt(var + 1e-5), atol=1e-4)


def test_running_statistics_where_nothing_is_trained():
    for how in ({"evaluated": ("normed",)}, {"still": {("normed", "norm")}}, {"train": False}):
        for options in ({}, {"use_running_average": False}):  # whatever the module asks for
            y, stats, variables = run(options, **how)
            wanted = nn.BatchNorm(use_running_average=True).apply(own(variables), X)
            np.testing.assert_allclose(y, wanted, atol=1e-6)
            jax.tree.map(np.testing.assert_array_equal, stats, own(variables)["batch_stats"])


def test_gradients_are_flaxs():
    _, _, variables = run({})
    away = RNG.normal(size=X.shape).astype(np.float32)

    def ours(x):
        y, _ = One(3).apply(variables, x, train=True, mutable=["batch_stats"], mask=np.ones(6, bool))
        return (y * away).sum()

    def flaxs(x):
        plain = nn.BatchNorm(use_running_average=False, use_fast_variance=False)
        return (plain.apply(own(variables), x, mutable=["batch_stats"])[0] * away).sum()

    np.testing.assert_allclose(jax.grad(ours)(X), jax.grad(flaxs)(X), atol=1e-5)


def test_rows_that_are_no_examples_are_refused():
    class Rows(nn.Module):
        @nn.compact
        def __call__(self, x, mode):
            return nn.BatchNorm(use_running_average=not mode.train, name="norm")(x.reshape(-1, 4)).reshape(x.shape)

    class Three(jaxdl.Staged):
        def stages(self):
            return ("rows", Rows), ("head", Top)

    variables = init_variables(Three(3), jax.random.key(0), X.shape[1:])
    with pytest.raises(InputError, match=r"rows/norm.*\(18, 4\).*6 examples"):
        Three(3).apply(variables, X, train=True, mutable=["batch_stats"], mask=np.ones(6, bool))


def calling(call):
    """A model of one stage, which calls a layer called ``norm`` its own way, and a head that does nothing."""

    class Calls(nn.Module):
        rate: float

        @nn.compact
        def __call__(self, x, mode):
            return call(x, mode.train, self.rate)

    class Stages(jaxdl.Staged):
        rate: float = 0.5

        def stages(self):
            return ("normed", lambda name: Calls(self.rate, name=name)), ("head", Top)

    return Stages(3)


class Twice(nn.BatchNorm):
    """With a call of its own, which calls that of Flax."""

    @nn.compact
    def __call__(self, train, rows):
        return 2 * super().__call__(rows, not train)


@pytest.mark.parametrize(
    ("call", "factor"),
    [
        (lambda x, train, _: nn.BatchNorm(name="norm")(use_running_average=not train, x=x), 1),
        (lambda x, train, _: nn.BatchNorm(name="norm")(x, not train), 1),
        (lambda x, train, _: nn.remat(nn.BatchNorm)(use_running_average=not train, name="norm")(x), 1),
        (lambda x, train, _: Twice(name="norm")(train, x), 2),
    ],
)
def test_batch_normalisation_however_it_is_called(call, factor):
    wanted, stats, variables = run({}, np.concatenate([X, 9 * X[:2]]), mask=np.arange(8) < 6)
    x = np.concatenate([X, 50 + X[:2]])
    made, changed = calling(call).apply(variables, x, train=True, mask=np.arange(8) < 6, mutable=["batch_stats"])
    np.testing.assert_allclose(made[:6], factor * wanted[:6], atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), changed["batch_stats"]["normed"]["norm"], stats
    )


class Kept(nn.Dropout):
    @nn.compact
    def __call__(self, rows, train):
        return super().__call__(rows, deterministic=not train)


DROPOUT = [
    lambda x, train, rate: nn.Dropout(rate, deterministic=not train)(x),
    lambda x, train, rate: nn.Dropout(rate)(x, deterministic=not train),
    lambda x, train, rate: nn.Dropout(rate)(x, not train),
    lambda x, train, rate: nn.Dropout(rate)(deterministic=not train, inputs=x),
    lambda x, train, rate: nn.Dropout(rate, broadcast_dims=(-2,))(x, not train),
    lambda x, train, rate: nn.Dropout(rate)(x, not train, jax.random.key(3)),
    lambda x, train, rate: Kept(rate)(x, train),
    lambda x, train, rate: nn.Dropout(rate, deterministic=False)(x),
]


@pytest.mark.parametrize("call", DROPOUT)
def test_the_rate_of_dropout_may_be_a_value_of_the_program(call):
    model = calling(call)

    def drawn(rate, **how):
        return model.clone(rate=rate).apply({}, X, train=True, rngs={"dropout": jax.random.key(1)}, **how)

    assert (drawn(0.5) == 0).any()
    for rate in (0.0, 0.5):
        np.testing.assert_allclose(jax.jit(drawn)(rate), drawn(rate), rtol=1e-6)
    # in a stage that is evaluated, nothing is drawn, whatever the module asks for
    for rate in (0.5, jnp.float32(0.5)):
        np.testing.assert_array_equal(drawn(rate, evaluated=("normed",)), X)


class Attends(nn.MultiHeadDotProductAttention):
    @nn.compact
    def __call__(self, train, rows):
        return super().__call__(rows, deterministic=not train)


OPTIONS = {"num_heads": 2, "qkv_features": 4, "name": "norm"}
ATTENTION = [
    lambda x, train, r: nn.MultiHeadDotProductAttention(dropout_rate=r, deterministic=not train, **OPTIONS)(x),
    lambda x, train, r: nn.MultiHeadAttention(dropout_rate=r, **OPTIONS)(inputs_q=x, deterministic=not train),
    lambda x, train, r: nn.SelfAttention(dropout_rate=r, **OPTIONS)(x, None, not train),
    lambda x, train, r: nn.SelfAttention(dropout_rate=r, deterministic=False, **OPTIONS)(x),
    lambda x, train, r: nn.remat(nn.MultiHeadAttention)(dropout_rate=r, deterministic=not train, **OPTIONS)(x),
    lambda x, train, r: Attends(dropout_rate=r, **OPTIONS)(train, x),
]


@pytest.mark.filterwarnings("ignore:SelfAttention")
@pytest.mark.parametrize("call", ATTENTION)
def test_attention_drops_nothing_in_a_stage_that_is_evaluated(call):
    model = calling(call)
    variables = init_variables(model, jax.random.key(0), X.shape[1:])
    without = model.clone(rate=0.0).apply(variables, X)
    first, second = (
        model.apply(variables, X, train=True, rngs={"dropout": key}) for key in jax.random.split(jax.random.key(1))
    )
    assert np.abs(first - second).max() > 1e-3
    for how in ({"train": True, "evaluated": ("normed",)}, {"train": False}):
        found = model.apply(variables, X, rngs={"dropout": jax.random.key(1)}, **how)
        np.testing.assert_allclose(found, without, atol=1e-6)


def test_a_single_value_is_refused_in_training():
    with pytest.raises(InputError, match=r"normed/norm.*one value at a time"):
        run({}, X[:1, 0])
    run({}, X[:1])  # of several places
    run({}, X[:1, 0], train=False)
