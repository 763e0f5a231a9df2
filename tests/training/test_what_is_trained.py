"""What is trained is a label: biases, normalisation and adapters against the same made by hand."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from command_line import jaxdl_command

import jaxdl
from jaxdl import data
from jaxdl.data.batches import training_batches
from jaxdl.errors import InputError
from jaxdl.models import adapters
from jaxdl.models.layers import Head
from jaxdl.models.variables import union, walk_shapes
from jaxdl.report.parameter_change import stage_parameter_change
from jaxdl.tasks import Classification
from jaxdl.training.prepare import prepare
from jaxdl.training.step import Batch
from jaxdl.training.transfer import of_run
from jaxdl.validation.search.configurations import configure, group
from jaxdl.validation.search.evaluate import Evaluation
from jaxdl.validation.search.inner import OUTER
from jaxdl.validation.splits import split_source

SOURCE = data.subset(data.digits(), np.arange(48))
OTHERS = data.subset(data.digits(), np.arange(100, 160))
NEW = data.subset(data.digits(), np.arange(200, 230))
PART = np.arange(len(SOURCE))
TASK = Classification(SOURCE.class_names)
# smooth, so that rounding decides nothing
FAMILIES = {
    "mlp": dict(hidden=(12, 16), activation="tanh"),
    "cnn": dict(features=(4, 8), hidden=(16,), activation="tanh", pool="average"),
    "vit": dict(width=16, depth=2, num_heads=2, patch_size=2),
    "resnet20_cifar": dict(depths=(1, 1, 1), width=4),
    "bit_r50x1": dict(depths=(1, 1), width=32),
}
SLOW = {"vit", "resnet20_cifar", "bit_r50x1"}


def families(*names):
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]


@functools.cache
def parent_of(name):
    return jaxdl.pretrain(jaxdl.create(name, 10, **FAMILIES[name]), OTHERS, jaxdl.Plan(epochs=1))


def setup_of(name, **options):
    defaults = {"epochs": 3, "batch_size": 16, "optimizer": "sgd", "learning_rate": 0.05, "schedule": "constant"}
    plan = jaxdl.Plan(**{**defaults, "weight_decay": 0.01, **options})
    return prepare(parent_of(name), SOURCE, plan, [PART], TASK)


def trained(setup, count=3):
    """The state before, and after some steps."""
    begin = of_run(setup.states([0]), 0)
    state, step = begin, jax.jit(setup.make_step())
    for epoch in range(count):
        made = training_batches([PART], 16, 0, [0], epoch)[0]
        state, _ = step(state, Batch(made.indices[0], made.weights[0]), setup.shared)
    return begin, state


def by_hand(setup, begin, moves, apply, count=3):
    """Parameters after the same steps of gradient descent on `apply`, in plain JAX, of what `moves` names."""
    params = setup.variables(begin)["params"]
    stats = setup.variables(begin)["batch_stats"]
    momentum = jax.tree.map(jnp.zeros_like, params)
    images, labels = setup.preprocessing.load(SOURCE), np.asarray(SOURCE.targets())

    @jax.jit
    def gradient(params, stats, rows):
        x = setup.preprocessing.on_device(jnp.asarray(images)[rows], begin.inputs)

        def loss(params):
            logits, stats_after = apply(params, stats, x)
            each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels)[rows])
            return each.mean(), stats_after

        return jax.grad(loss, has_aux=True)(params)

    for epoch in range(count):
        rows = training_batches([PART], 16, 0, [0], epoch)[0].indices[0]
        grads, stats = gradient(params, stats, rows)

        def descend(path, p, g, m):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            if not moves(name):
                return p, m
            decays = name.split("/")[-1] in ("kernel", "lora_a", "lora_b")
            m = 0.9 * m + g + (0.01 * p if decays else 0)
            return p - 0.05 * m, m

        both = jax.tree_util.tree_map_with_path(descend, params, grads, momentum)
        params, momentum = (
            jax.tree.map(lambda pair, i=i: pair[i], both, is_leaf=lambda node: isinstance(node, tuple)) for i in (0, 1)
        )
    return params, stats


def equal(one, other, tolerance=2e-6):
    one, other = dict(walk_shapes(one)), dict(walk_shapes(other))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=tolerance, err_msg=name)


def is_norm_leaf(name, params):
    *parts, last = name.split("/")
    siblings = functools.reduce(lambda tree, part: tree[part], parts, params)
    return last == "scale" or (last == "bias" and "scale" in siblings)


LESS = [("norm", "vit"), ("norm", "cnn"), ("biases", "vit"), ("biases", "resnet20_cifar"), ("norm", "resnet20_cifar")]


@pytest.mark.parametrize(
    ("what", "name"),
    [("biases", "cnn"), *(pytest.param(*one, marks=pytest.mark.slow) for one in LESS)],
)
def test_biases_or_normalisation_alone(name, what):
    setup = setup_of(name, train=what)
    begin, state = trained(setup)
    whole = setup.variables(begin)

    def moves(leaf):
        if leaf.startswith("head/"):
            return True
        return leaf.endswith("/bias") if what == "biases" else is_norm_leaf(leaf, whole["params"])

    def apply(params, stats, x):
        held = [
            s for s in setup.model.stage_names if not any(moves(f"{n}") for n, _ in walk_shapes({s: params.get(s, {})}))
        ]
        variables = {"params": params, "batch_stats": stats}
        logits, changed = setup.model.apply(variables, x, train=True, evaluated=held, mutable=["batch_stats"])
        return logits, changed.get("batch_stats", {})

    params, stats = by_hand(setup, begin, moves, apply)
    equal(setup.variables(state)["params"], params)
    equal(setup.variables(state)["batch_stats"], stats)
    # what is not trained is no part of the state, of which each fold has its own
    assert {n for n, _ in walk_shapes(state.params)} == {n for n, _ in walk_shapes(whole["params"]) if moves(n)}


@pytest.mark.parametrize("name", families("mlp", "cnn", "vit", "resnet20_cifar"))
def test_an_adapter_is_a_kernel_with_a_product_added(name):
    """Low-rank training against gradient descent on A and B through W + A B, with statistics that stay."""
    setup = setup_of(name, adapter="lora:2")
    begin, state = trained(setup)
    assert not jax.tree.leaves(state.batch_stats), (
        "batch normalisation of which nothing is trained keeps its statistics"
    )

    def moves(leaf):
        return leaf.startswith("head/") or leaf.rsplit("/", 1)[-1] in ("lora_a", "lora_b")

    def added(node):
        if not isinstance(node, dict):
            return node
        rest = {part: added(value) for part, value in node.items() if part not in ("lora_a", "lora_b")}
        if "lora_a" in node:
            rest["kernel"] = node["kernel"] + jnp.tensordot(node["lora_a"], node["lora_b"], 1)
        return rest

    def apply(params, stats, x):
        return setup.model.apply({"params": added(params), "batch_stats": stats}, x), stats

    params, stats = by_hand(setup, begin, moves, apply)
    after = setup.variables(state)
    equal(after["params"], params)
    equal(after["batch_stats"], stats)
    start = setup.variables(begin)
    x = setup.preprocessing.on_device(jnp.asarray(setup.preprocessing.load(SOURCE)), begin.inputs)
    plain = {**start, "params": adapters.merge(start["params"])}
    np.testing.assert_array_equal(setup.model.apply(start, x), setup.model.apply(plain, x))  # B is zero at first
    merged = {**after, "params": adapters.merge(after["params"])}
    assert jax.tree.structure(merged["params"]) == jax.tree.structure(parent_of(name).variables["params"])
    np.testing.assert_allclose(setup.model.apply(merged, x), setup.model.apply(after, x), atol=2e-5)


@pytest.mark.slow
def test_full_rank_takes_the_step_of_full_fine_tuning():
    """With A the identity, a step of B from zero is a step of the kernel: A moves only where B does not vanish."""
    setup = setup_of("mlp", adapter="lora:16:layer2", weight_decay=0.0)
    full = setup_of("mlp", weight_decay=0.0)
    begin = of_run(setup.states([0]), 0)
    layer = begin.params["layer2"]["dense"]
    assert layer["lora_a"].shape == (12, 12), "more than the layer sees would bring nothing"
    eye = np.eye(12, dtype=np.float32)
    begin.params["layer2"]["dense"] = {**layer, "lora_a": jnp.asarray(eye)}
    rows = training_batches([PART], 16, 0, [0], 0)[0]
    batch = Batch(rows.indices[0], rows.weights[0])
    after, _ = setup.make_step()(begin, batch, setup.shared)
    begun = of_run(full.states([0]), 0)
    assert jax.tree.all(jax.tree.map(np.array_equal, begun.params["head"], begin.params["head"]))
    wanted, _ = full.make_step()(begun, batch, full.shared)
    kernel = adapters.merge(setup.variables(after)["params"])["layer2"]["dense"]["kernel"]
    before = parent_of("mlp").variables["params"]["layer2"]["dense"]["kernel"]
    step = np.asarray(wanted.params["layer2"]["dense"]["kernel"]) - before
    np.testing.assert_allclose(kernel - before, step, atol=1e-6)
    assert np.abs(step).max() > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"adapter": "lora:2"},
        *(
            pytest.param(o, marks=pytest.mark.slow)
            for o in ({"train": "biases"}, {"train": "biases", "adapter": "lora:1"})
        ),
    ],
)
@pytest.mark.parametrize("name", families("mlp", "vit", "resnet20_cifar"))
def test_folds_in_one_program_are_those_of_the_loop(name, options):
    plan = jaxdl.Plan(epochs=2, batch_size=16, optimizer="sgd", learning_rate=0.05, **options)
    ways = [
        jaxdl.cross_validate(
            parent_of(name), SOURCE, plan, folds=3, execution=jaxdl.Execution(fold_strategy=way, keep_models=True)
        )
        for way in ("loop", "vmap")
    ]
    for one, other in zip(*(way.models for way in ways), strict=True):
        equal(one.variables, other.variables)


@pytest.mark.slow
def test_nothing_is_cached_past_a_trained_leaf():
    assert setup_of("vit", adapter="lora:2:block2").start == "block2"
    assert setup_of("vit", adapter="lora:2").start is None
    assert setup_of("vit", train="biases").start is None
    assert setup_of("vit", train="biases", freeze_through="embed").start == "block1"
    assert setup_of("vit", train="norm").start == "block1", "the embedding has no normalisation"
    whole = setup_of("vit", adapter="lora:2:block2", cache_features=False)
    cached = setup_of("vit", adapter="lora:2:block2")
    equal(whole.variables(trained(whole)[1]), cached.variables(trained(cached)[1]))


@pytest.mark.slow
def test_an_adapter_goes_on_and_is_merged(tmp_path):
    plan = jaxdl.Plan(epochs=1, adapter="lora:2:*/mlp1,*/query")
    once = jaxdl.finetune(parent_of("vit"), SOURCE, plan)
    jaxdl.save(once, tmp_path / "apart")
    read = jaxdl.restore(tmp_path / "apart")
    equal(read.variables, once.variables, 0)
    names = {name for name, _ in walk_shapes(read.variables) if name.endswith("lora_a")}
    assert len(names) == 4
    again = jaxdl.finetune(read, SOURCE, plan)
    changed = {
        n for n, leaf in walk_shapes(again.variables) if not np.array_equal(leaf, dict(walk_shapes(read.variables))[n])
    }
    assert {n.rsplit("/", 1)[-1] for n in changed if "/head/" not in n} == {"lora_a", "lora_b"}
    merged = jaxdl.merge_adapter(read)
    other = jaxdl.Plan(epochs=1, adapter="lora:3")
    one, two = (jaxdl.finetune(start, SOURCE, other) for start in (read, merged))  # merged first of itself
    equal(one.variables, two.variables, 0)
    assert not any("lora" in name for name, _ in walk_shapes(merged.variables))
    np.testing.assert_allclose(jaxdl.predict(merged, OTHERS).outputs, jaxdl.predict(read, OTHERS).outputs, atol=1e-5)
    with pytest.raises(jaxdl.InputError, match="no adapter"):
        jaxdl.merge_adapter(merged)
    with pytest.raises(jaxdl.InputError, match="block1/mlp1"):
        jaxdl.restore(tmp_path / "apart", drop=["params/block1/mlp1/lora_b"])


@pytest.mark.slow
def test_weights_for_others_and_the_report_have_the_adapter_inside(tmp_path):
    once = jaxdl.finetune(parent_of("vit"), SOURCE, jaxdl.Plan(epochs=1, adapter="lora:2:block2"))
    merged = jaxdl.merge_adapter(once)
    files = [jaxdl.export(one, tmp_path / name) for one, name in ((once, "apart"), (merged, "merged"))]
    assert files[0].read_bytes() == files[1].read_bytes()
    moved = [
        stage_parameter_change(parent_of("vit").variables, c.variables, ("block1", "block2")) for c in (once, merged)
    ]
    assert moved[0] == moved[1]
    assert moved[0]["block1"] == 0 < moved[0]["block2"]


@pytest.mark.slow
@pytest.mark.parametrize("train", ["all", "biases", "norm"])
def test_an_adapter_that_no_plan_names_is_merged_before_training(train):
    once = jaxdl.finetune(parent_of("vit"), SOURCE, jaxdl.Plan(epochs=1, adapter="lora:2"))
    plan = jaxdl.Plan(epochs=1, train=train)
    one, two = (jaxdl.finetune(start, SOURCE, plan) for start in (once, jaxdl.merge_adapter(once)))
    equal(one.variables, two.variables, 0)


@pytest.mark.slow
def test_an_ensemble_of_adapted_folds_is_saved_and_predicts(tmp_path):
    plan = jaxdl.Plan(epochs=1, batch_size=16, adapter="lora:2:layer1")
    result = jaxdl.cross_validate(
        parent_of("mlp"), SOURCE, plan, folds=2, execution=jaxdl.Execution(keep_models=True, fold_strategy="loop")
    )
    together = jaxdl.ensemble(result)
    jaxdl.save_ensemble(together, tmp_path / "ensemble")
    read = jaxdl.load_ensemble(tmp_path / "ensemble")
    found = read.predict(NEW).outputs
    np.testing.assert_array_equal(found, together.predict(NEW).outputs)
    alone = [jaxdl.predict(one, NEW).probabilities for one in result.models]
    np.testing.assert_allclose(read.predict(NEW).probabilities, np.mean(alone, 0), atol=1e-5)


def test_the_command_merges_an_adapter_that_the_checkpoint_has(tmp_path):
    once = jaxdl.finetune(parent_of("mlp"), SOURCE, jaxdl.Plan(epochs=1, adapter="lora:2"))
    jaxdl.save(once, tmp_path / "apart")
    told = jaxdl_command(f"inspect {tmp_path / 'apart'}")
    assert "layer1/dense (2)" in told
    assert "adapter lora:2" in told
    assert f"{sum(leaf.size for leaf in jax.tree.leaves(once.variables['params'])):,}" in told
    jaxdl_command(
        f"finetune --init {tmp_path / 'apart'} --data digits --epochs 1 --merge-adapter --out {tmp_path / 'merged'}"
    )
    names = {name for name, _ in walk_shapes(jaxdl.restore(tmp_path / "merged").variables)}
    assert names == {name for name, _ in walk_shapes(parent_of("mlp").variables)}


class Dropped(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, mode):
        return nn.Dropout(self.rate, deterministic=not mode.train)(x)


class Layer(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, mode):
        return nn.tanh(nn.Dense(self.width)(x.reshape(len(x), -1)))


class Dropping(jaxdl.Staged):
    """With a stage of dropout alone."""

    rate: float = 0.0

    def stages(self):
        return (
            ("layer", lambda name: Layer(8, name=name)),
            ("drop", lambda name: Dropped(self.rate, name=name)),
            ("head", lambda name: Head(self.num_outputs, name=name)),
        )


@pytest.mark.slow
def test_a_stage_of_dropout_alone_draws_behind_a_trained_one_and_not_behind_frozen_ones():
    def losses(freeze):
        plan = jaxdl.Plan(epochs=1, batch_size=16, freeze_through=freeze, cache_features=False)
        return [jaxdl.finetune(Dropping(10, rate=rate), SOURCE, plan).history[0]["train_loss"] for rate in (0.0, 0.9)]

    assert np.ptp(losses(None)) > 1e-3
    assert np.ptp(losses("layer")) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "taken"),
    [
        ("convnext_tiny", {"depths": (1, 1), "widths": (4, 8)}, "mlp1"),
        ("efficientnet_b0", {"depths": (1, 1), "width": 0.25}, "expand"),
    ],
)
def test_grouped_convolutions_are_refused_and_the_advice_works(name, arguments, taken):
    model = jaxdl.create(name, 10, **arguments)
    parent = jaxdl.from_model(model, parent_of("vit").card.preprocessing)
    with pytest.raises(jaxdl.InputError, match=r"stage1/block1/\w+ is a grouped convolution") as refused:
        prepare(parent, SOURCE, jaxdl.Plan(adapter="lora:1"), [PART], TASK)
    advised = str(refused.value).split("'")[1]
    setup = prepare(parent, SOURCE, jaxdl.Plan(adapter=advised), [PART], TASK)
    assert any(taken in name for name, _ in setup.adapter.layers)


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("mlp", {"train": "norm"}, "train='norm'"),
        ("mlp", {"train": "biases", "freeze_through": "body"}, "train='biases'"),
        ("vit", {"adapter": "lora:2:blok1"}, "blok1"),
        ("vit", {"adapter": "lora:2:block1", "freeze_through": "block1"}, "block1/.* is frozen"),
        ("vit", {"adapter": "lora:2", "freeze_through": "body"}, "adapter"),
    ],
)
def test_what_trains_nothing_is_refused_by_name(name, options, named):
    with pytest.raises(jaxdl.InputError, match=named):
        setup_of(name, **options)


@pytest.mark.slow
def test_a_layer_that_changes_its_kernel_keeps_its_adapter_apart():
    once = jaxdl.finetune(parent_of("bit_r50x1"), SOURCE, jaxdl.Plan(epochs=1, adapter="lora:1:stage1"))
    assert jaxdl.predict(once, OTHERS).accuracy is not None
    with pytest.raises(jaxdl.InputError, match=r"stage1/.*StandardisedConv"):
        jaxdl.merge_adapter(once)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_ranks_and_rates_are_lanes_of_one_program(strategy):
    """Each configuration of a search gets the score that cross-validation gives it alone; rank 1 is padded to 3."""
    parent, plan = parent_of("mlp"), jaxdl.Plan(epochs=2, batch_size=16)
    drawn = [{"adapter": "lora:1", "learning_rate": 1e-3}, {"adapter": "lora:3", "learning_rate": 3e-2}]
    configurations = configure(drawn, parent, plan, SOURCE, TASK)
    split = split_source(SOURCE, "stratified", 2, 0)
    execution = jaxdl.Execution(fold_strategy=strategy)
    found = Evaluation(SOURCE, TASK, {OUTER: split}, group(configurations), (0,), execution)
    assert len(found.groups) == 1
    table = found.run([(c.number, (OUTER, fold)) for c in configurations for fold in range(2)], "all")
    for one in configurations:
        alone = jaxdl.cross_validate(parent, SOURCE, one.plan, splitter=split)
        assert one.trained == sum(
            leaf.size for leaf in jax.tree.leaves(trained(setup_of("mlp", **one.values), 0)[0].params)
        )
        for row in alone.folds:
            assert table[one.number, (OUTER, row["fold"]), 0]["loss"] == pytest.approx(row["loss"], abs=1e-5)


def test_a_smaller_rank_is_the_larger_one_with_zeros():
    params = {"layer": {"kernel": jnp.zeros((5, 7)), "bias": jnp.zeros(7)}}
    small, large = (adapters.fresh(params, (("layer", 1),), rank, jax.random.key(3)) for rank in (2, 4))
    np.testing.assert_array_equal(small["layer"]["lora_a"], large["layer"]["lora_a"][:, :2])
    padded = adapters.fresh(params, (("layer", 1),), 4, jax.random.key(3), jnp.int32(2))["layer"]["lora_a"]
    np.testing.assert_array_equal(padded[:, :2], small["layer"]["lora_a"])
    assert not padded[:, 2:].any()


class Scanned(nn.Module):
    """A cell of dense layers, in a scan: its adapters must be found inside it."""

    @nn.compact
    def __call__(self, x):
        return nn.RNN(nn.SimpleCell(6))(x)[:, -1]


@pytest.mark.slow
def test_layers_of_many_axes_and_in_a_scan():
    class Wide(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.DenseGeneral((2, 3), axis=(-2, -1))(x)
            return nn.Conv(4, (2,), padding="VALID", kernel_dilation=1)(x)

    for model, shape in ((Wide(), (2, 5, 3, 4)), (Scanned(), (2, 5, 3))):
        x = jax.random.normal(jax.random.key(0), shape)
        variables = model.init(jax.random.key(1), x)
        layers = adapters.layers_of(model, variables, x)
        chosen = tuple(("/".join(path), len(np.atleast_1d(layer.features))) for path, layer in layers.items())
        extra = adapters.fresh(variables["params"], chosen, 2, jax.random.key(2))
        extra = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(4), leaf.shape), extra)
        params = union(variables["params"], extra)
        assert not adapters.check_adapters(params)
        with nn.intercept_methods(adapters.add_low_rank):
            apart = model.apply({"params": params}, x)
        merged = model.apply({"params": adapters.merge(params)}, x)
        np.testing.assert_allclose(apart, merged, rtol=2e-5, atol=1e-5)
        assert np.abs(apart - model.apply(variables, x)).max() > 0.1


class Scaled(nn.Dense):
    """With a call of its own, which calls that of Flax."""

    @nn.compact
    def __call__(self, by, x):
        return by * super().__call__(x)


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: nn.Dense(4, name="one")(inputs=x),
        lambda x: Scaled(4, name="one")(2.0, x),
        lambda x: nn.remat(nn.Dense)(4, name="one")(x),
        lambda x: nn.vmap(nn.Dense, {"params": None}, {"params": False})(4, name="one")(x),
    ],
)
def test_an_adapter_is_added_once_however_its_layer_is_called(layer):
    class Calls(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layer(x)

    x = jax.random.normal(jax.random.key(0), (3, 2, 5))
    variables = Calls().init(jax.random.key(1), x)
    found = adapters.layers_of(Calls(), variables, x)
    layers = adapters.choose_layers(found, ["one"], ["one*"])
    extra = adapters.fresh(variables["params"], layers, 2, jax.random.key(2))
    extra = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(4), leaf.shape), extra)
    params = union(variables["params"], extra)
    with nn.intercept_methods(adapters.add_low_rank):
        apart = Calls().apply({"params": params}, x)
    np.testing.assert_allclose(apart, Calls().apply({"params": adapters.merge(params)}, x), rtol=2e-5, atol=1e-5)


class Steps(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(x.shape[-1], name="dense")(x), None


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (lambda x: nn.scan(Steps, {"params": 0}, split_rngs={"params": True}, length=2)(name="no")(x, None)[0], "scan"),
        (
            lambda x: nn.vmap(nn.Dense, split_rngs={"params": True}, variable_axes={"params": 0})(5, name="no")(x),
            "vmap",
        ),
        (lambda x: nn.Conv(5, (2,), mask=jnp.ones((2, 5, 5)), name="no")(x), "mask"),
        (lambda x: nn.Conv(5, (2,), feature_group_count=5, name="no")(x), "grouped"),
    ],
)
def test_a_layer_that_takes_no_adapter_is_refused_by_name(layer, said):
    class Calls(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4, name="yes")(layer(x))

    x = jax.random.normal(jax.random.key(0), (3, 2, 5))
    variables = Calls().init(jax.random.key(1), x)
    found = {("body", *path): layer for path, layer in adapters.layers_of(Calls(), variables, x).items()}
    with pytest.raises(InputError, match=rf"body/no\S* .*{said}.*lora:4:\*/yes"):
        adapters.choose_layers(found, ["body"], [])
    assert adapters.choose_layers(found, ["body"], ["body/yes"]) == (("body/yes", 1),)
