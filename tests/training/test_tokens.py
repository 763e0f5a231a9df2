"""Sequences of tokens: a source, a task and a network with a tied table, all of somebody's own.

Padded ids with a mask, an embedding, a recurrent cell and a language model's head that reads the embedding's table,
through everything that trains and measures; nothing of jaxdl knows of them.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interruptions import run_to_the_end
from own_tokens import PADDING, VOCABULARY, Counting, NextToken

import jaxdl
from jaxdl.data.batches import training_batches
from jaxdl.models import Entry
from jaxdl.models.initialise import init_head
from jaxdl.models.staged import Staged
from jaxdl.models.variables import walk_shapes
from jaxdl.tasks import TASKS
from jaxdl.training.execution import Execution
from jaxdl.training.prepare import prepare
from jaxdl.training.step import Batch
from jaxdl.training.transfer import of_run


class Embed(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, mode):
        return {"h": nn.Embed(VOCABULARY, self.width, name="tokens")(x["ids"]), "mask": x["mask"]}


class Recurrent(nn.Module):
    """A layer that does not see the padding."""

    @nn.compact
    def __call__(self, x, mode):
        layer = nn.RNN(nn.LSTMCell(x["h"].shape[-1]), name="layer")
        return {**x, "h": x["h"] + layer(x["h"], seq_lengths=x["mask"].sum(1))}


class TiedHead(nn.Module):
    """Scores of all tokens by the very table that embeds them, and a bias."""

    num_outputs: int

    @nn.compact
    def __call__(self, x, mode):
        bias = self.param("bias", nn.initializers.zeros, (self.num_outputs,))
        return x["h"] @ mode.tied["table"].T + bias


class LanguageModel(Staged):
    """Stages ``embed, recurrent, head``."""

    width: int = 12

    def stages(self):
        return (
            ("embed", lambda name: Embed(self.width, name=name)),
            ("recurrent", Recurrent),
            ("head", lambda name: TiedHead(self.num_outputs, name=name)),
        )

    def ties(self):
        return {"head": {"table": "embed/tokens/embedding"}}


@pytest.fixture(autouse=True, scope="module")
def known_here():
    """Model and task are in their tables while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(jaxdl.MODELS, "language_model", Entry(LanguageModel))
        patch.setitem(TASKS, NextToken.name, NextToken)
        yield


TASK = NextToken(Counting.class_names)
SOURCE, NEW = Counting(96), Counting(48, seed=1, name="more counting")
PLAN = jaxdl.Plan(epochs=2, batch_size=16, learning_rate=0.1, optimizer="sgd", schedule="constant", weight_decay=0.0)


@pytest.fixture(scope="module")
def trained():
    plan = jaxdl.Plan(epochs=60, batch_size=16, learning_rate=0.02)
    return jaxdl.pretrain(LanguageModel(VOCABULARY), SOURCE, plan, task=TASK, validation=NEW)


def leaves(tree):
    return dict(walk_shapes(tree))


def same(one, other, atol=0.0):
    one, other = leaves(one), leaves(other)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=atol, err_msg=name)


def test_it_learns_to_count_and_the_table_is_stored_once(trained, tmp_path):
    found = jaxdl.predict(trained, NEW)
    assert found.scores["token_accuracy"] > 0.8
    everything = found.scores_of(np.arange(len(found)))  # some were trained on, and are scored apart
    assert trained.history[-1]["test_loss"] == pytest.approx(everything["loss"], rel=1e-5)
    tables = [name for name, leaf in leaves(trained.variables).items() if VOCABULARY in leaf.shape and leaf.ndim == 2]
    assert tables == ["params/embed/tokens/embedding"]
    again = jaxdl.restore(jaxdl.save(trained, tmp_path / "model"))
    np.testing.assert_array_equal(jaxdl.predict(again, NEW).outputs, found.outputs)


def test_what_the_mask_hides_has_no_say(trained):
    other = Counting(48, seed=1)
    other.ids = np.where(other.mask, other.ids, 7).astype(np.int32)
    found = [np.asarray(jaxdl.predict(trained, source).outputs)[NEW.mask] for source in (NEW, other)]
    np.testing.assert_array_equal(*found)


def one_step(init, **options):
    plan = dataclasses.replace(PLAN, **options)
    setup = prepare(init, SOURCE, plan, [np.arange(len(SOURCE))], TASK)
    begin = of_run(setup.states([0]), 0)
    made = training_batches([np.arange(len(SOURCE))], 16, 0, [0], 0)[0]
    state, _ = setup.make_step()(begin, Batch(made.indices[0], made.weights[0]), setup.shared)
    return setup, setup.variables(begin), setup.variables(state), made.indices[0]


@pytest.mark.slow
def test_the_table_gets_the_gradients_of_both_its_uses(trained):
    """A step against the derivative of the loss by finite differences in the table."""
    setup, before, after, rows = one_step(trained)
    batch = jax.tree.map(lambda *each: np.stack(each), *[SOURCE[int(row)] for row in rows])
    count = (batch["y"] != PADDING).sum()

    def loss(table):
        params = {**before["params"], "embed": {"tokens": {"embedding": table}}}
        outputs = setup.model.apply({"params": params}, batch["x"])
        return float(TASK.loss(outputs, batch["y"], {})[0].astype(jnp.float32).sum() / count)

    table = np.asarray(before["params"]["embed"]["tokens"]["embedding"])
    moved = np.asarray(after["params"]["embed"]["tokens"]["embedding"]) - table
    direction = np.random.default_rng(0).normal(size=table.shape).astype(np.float32)
    slope = (loss(table + 1e-2 * direction) - loss(table - 1e-2 * direction)) / 2e-2
    assert -(moved * direction).sum() / PLAN.learning_rate == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("freeze", ["embed", "body"])
@pytest.mark.slow
def test_a_frozen_table_reaches_the_head_past_the_cache(trained, freeze):
    cached = one_step(trained, freeze_through=freeze)
    whole = one_step(trained, freeze_through=freeze, cache_features=False)
    assert cached[0].start == {"embed": "recurrent", "body": "head"}[freeze]
    assert whole[0].start is None
    assert leaves(cached[0].shared.frozen).keys() >= {"params/embed/tokens/embedding"}
    same(cached[2], whole[2], 1e-6)
    same(cached[2]["params"]["embed"], trained.variables["params"]["embed"])


def test_a_head_alone_neither_fails_nor_makes_a_second_table(trained):
    shapes = jax.eval_shape(lambda: trained.variables)
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), SOURCE.spec()["x"])
    head = init_head(trained.model, jax.random.key(0), shapes, x)
    assert {name: leaf.shape for name, leaf in leaves(head).items()} == {"params/head/bias": (VOCABULARY,)}
    replaced = jaxdl.replace_head(trained, num_outputs=VOCABULARY)
    assert leaves(replaced.variables).keys() == leaves(trained.variables).keys()


@pytest.mark.parametrize(
    "options",
    [
        {"adapter": "lora:2:recurrent"},
        *(pytest.param(options, marks=pytest.mark.slow) for options in ({}, {"freeze_through": "embed"})),
    ],
)
@pytest.mark.slow
def test_folds_in_one_program_are_those_of_the_loop(trained, options):
    plan = dataclasses.replace(PLAN, **options)
    # there are not many ways to count: sentences are the same, and nothing is claimed of the score
    how = Execution(keep_models=True, allow=("duplicates", "parent"))
    ways = [
        jaxdl.cross_validate(trained, NEW, plan, task=TASK, folds=3, execution=how.replace(fold_strategy=way))
        for way in ("loop", "vmap")
    ]
    for one, other in zip(*(way.models for way in ways), strict=True):
        same(one.variables, other.variables, 2e-6)
    assert ways[0].metrics["pooled"]["token_accuracy"] > 0.5
    assert ways[0].interval["low"] < ways[0].mean < ways[0].interval["high"]


def test_an_adapter_inside_the_scan_of_the_cell_is_trained_and_merged(trained):
    plan = dataclasses.replace(PLAN, adapter="lora:2:recurrent/*/hi,recurrent/*/ii", epochs=3)
    adapted = jaxdl.finetune(trained, NEW, plan, task=TASK)
    begun, now = leaves(trained.variables), leaves(adapted.variables)
    extra = {name for name in now if name not in begun}
    assert len(extra) == 4
    assert all(np.abs(now[name]).max() > 0 for name in extra)
    assert {name for name in begun if not np.array_equal(begun[name], now[name])} <= {"params/head/bias"}
    merged = jaxdl.merge_adapter(adapted)
    np.testing.assert_allclose(jaxdl.predict(merged, SOURCE).outputs, jaxdl.predict(adapted, SOURCE).outputs, atol=2e-5)


@pytest.mark.slow
def test_a_killed_run_with_an_adapter_goes_on_bit_for_bit(trained, tmp_path):
    plan = dataclasses.replace(PLAN, adapter="lora:2:recurrent", epochs=3)
    whole = jaxdl.finetune(trained, NEW, plan, task=TASK)
    again, stops = run_to_the_end(
        lambda how: jaxdl.finetune(trained, NEW, plan, task=TASK, execution=how), tmp_path / "run", 2
    )
    assert stops >= 2
    same(whole.variables, again.variables)
