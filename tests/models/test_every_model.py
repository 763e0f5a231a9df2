"""Every name of the table of models through everything that transfer learning does to a model.

What depends on a network's size alone (names, order of the stages, number of parameters, head) is tested at full
size, without computing. The rest runs on a small one of the same family, with the name's own kind of blocks; names that
differ by nothing but their size share it. A plain run takes the first of most families, and trains one of them; the
slow tier takes all.
"""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl.data import ImagePreprocessing
from jaxdl.data.preprocessing import RawPreprocessing
from jaxdl.models import MODELS, MODES, create
from jaxdl.models.initialise import batch_of, init_variables
from jaxdl.models.variables import join_variables, split_variables, walk_shapes
from jaxdl.weights.card import Card

# what makes a network of a family small, and the side of its images, or the number of its tokens
SMALL = {
    "MLP": ({"hidden": (8, 6)}, 6),
    "CNN": ({"features": (4, 6), "hidden": (8,)}, 12),
    "CifarResNet": ({"depths": (1, 1), "width": 4}, 12),
    "ResNet": ({"depths": (1, 1), "width": 16}, 40),
    "BiT": ({"depths": (1, 1), "width": 32}, 32),
    "ConvNeXt": ({"depths": (1, 2), "widths": (8, 12)}, 32),
    "InceptionV3": ({"width": 0.125}, 75),
    "GoogLeNet": ({"width": 0.125}, 32),
    "ViT": ({"patch_size": 8, "width": 12, "depth": 2, "num_heads": 3}, 16),
    "MobileNetV2": ({"width": 0.25, "depths": (1, 2)}, 16),
    "EfficientNet": ({"width": 0.25, "depths": (1, 2)}, 16),
    "EfficientNetLite": ({"width": 0.25, "depths": (1, 2)}, 16),
    "UNet": ({"depth": 2, "width": 4}, 12),
    "VGG": ({"depths": (1, 1), "features": (4, 6), "hidden": (8, 6)}, 20),
    "RNN": ({"vocabulary": 11, "width": 6, "features": 5, "depth": 2}, 7),
    "TextCNN": ({"vocabulary": 11, "width": 6, "features": 4}, 7),
    "Transformer": ({"vocabulary": 11, "width": 12, "depth": 2, "num_heads": 3, "longest": 9}, 7),
    "Bert": ({"vocabulary": 11, "width": 12, "depth": 2, "num_heads": 3, "longest": 9}, 7),
}
OUTPUTS = 3


def small_of(name):
    """The small network of a name and the side of its images."""
    family = MODELS[name].family.__name__
    arguments, side = SMALL[family]
    if name.startswith("resnext"):
        arguments = {**arguments, "groups": 4, "width_per_group": 16}
    return create(name, OUTPUTS, **arguments), side


def _key(model):
    """Its family and its fields."""
    names = [field for field in type(model).__dataclass_fields__ if field not in ("parent", "name")]
    return type(model), tuple((field, getattr(model, field)) for field in names)


def _distinct():
    """``{(family, fields): (side, names)}``: the small networks, and the names of the table that each stands for."""
    found = {}
    for name in MODELS:
        model, side = small_of(name)
        found.setdefault(_key(model), (side, []))[1].append(name)
    return found


DISTINCT = _distinct()
# families that compile longest, or whose blocks another family has
SLOW = ("InceptionV3", "GoogLeNet", "MobileNetV2", "EfficientNetLite")
FIRST = {entry.family: name for name, entry in reversed(MODELS.items())}  # the first name of each family


def _slow_but(quick, cases):
    """`cases` as parameters; all but the `quick` ones are left to the slow tier."""
    return [pytest.param(case, marks=() if quick(case) else pytest.mark.slow) for case in cases]


@pytest.fixture(
    params=_slow_but(lambda key: FIRST[key[0]] in DISTINCT[key][1] and key[0].__name__ not in SLOW, DISTINCT),
    ids=lambda key: f"{DISTINCT[key][1][0]} and {len(DISTINCT[key][1]) - 1} more",
)
def case(request):
    """A small network, variables none of which is trivial, and examples as stored."""
    return _made(*request.param, DISTINCT[request.param][0])


def test_every_name_is_in():
    assert sorted(name for _, names in DISTINCT.values() for name in names) == sorted(MODELS)


@functools.cache
def _made(family, fields, side):
    model = family(**dict(fields))
    rng = np.random.default_rng(0)

    def drawn(path, leaf):
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        if path[-1].key in ("var", "scale"):
            return np.float32(0.5) + noise**2
        fan_in = np.float32(max(1, np.prod(leaf.shape[:-1])))
        return noise / np.sqrt(fan_in) if leaf.ndim > 1 else np.float32(0.1) * noise

    stored, preprocessing = _examples(model, side, rng)
    shapes = jax.eval_shape(lambda key: init_variables(model, key, preprocessing.spec()), jax.random.key(0))
    return Case(model, jax.tree_util.tree_map_with_path(drawn, shapes), stored, preprocessing)


def _examples(model, side, rng):
    """A dozen examples as stored, and how they are prepared."""
    if model.__dataclass_fields__.get("vocabulary") is None:
        stored = rng.integers(0, 256, (12, side, side, 3), dtype=np.uint8)
        return stored, ImagePreprocessing(stored.shape[1:], (0.5,) * 3, (0.25,) * 3)
    lengths = rng.integers(1, side + 1, (12, 1))
    stored = {"tokens": rng.integers(0, 11, (12, side), dtype=np.int32), "mask": np.arange(side) < lengths}
    return stored, RawPreprocessing(tuple((name, (side,), str(stored[name].dtype)) for name in stored))


class Case:
    """A network, and what several tests ask of it, computed once."""

    def __init__(self, model, variables, stored, preprocessing):
        self.model, self.variables, self.stored = model, variables, stored
        self.names = model.stage_names
        self.checkpoint = jaxdl.Checkpoint(model, variables, Card(preprocessing))
        self.x = jax.tree.map(np.asarray, preprocessing.network_input(stored))
        self.run = jax.jit(model.apply, static_argnames=("start", "stop", "taps"))
        self.labels = np.arange(12) % OUTPUTS
        if model.ANSWERS == "segmentation":  # a class for each pixel
            self.labels = (stored[..., 0] // 86).astype(np.uint8)

    @functools.cached_property
    def tapped(self):
        """Logits and what flows out of every stage."""
        return self.run(self.variables, self.x, taps=self.names)

    @functools.cached_property
    def source(self):
        if isinstance(self.stored, dict):
            return jaxdl.data.Arrays(self.stored, self.labels, ("a", "b", "c"))
        return jaxdl.data.arrays(self.stored, self.labels, class_names=("a", "b", "c"))

    @functools.cached_property
    def middle(self):
        """A stage in the middle, whose prefix has parameters."""
        return self.names[len(self.names) // 2]


def _rows(tree, start, stop):
    return jax.tree.map(lambda leaf: leaf[start:stop], tree)


def _equal(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.slow
@pytest.mark.parametrize("name", _slow_but(lambda name: name in FIRST.values(), MODELS))
def test_full_size_without_computing(name):
    entry = MODELS[name]
    model = create(name, entry.outputs)
    side, outputs = entry.image_size, entry.outputs
    x = jax.tree.map(lambda one: jax.ShapeDtypeStruct((2, *one.shape[1:]), one.dtype), batch_of(entry.example()))
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == entry.parameters
    logits, taps = jax.eval_shape(lambda v, x: model.apply(v, x, taps=model.stage_names), shapes, x)
    maps = model.ANSWERS == "segmentation"
    assert logits.shape == ((2, side, side, outputs) if maps else (2, outputs))
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(taps)), "examples come first"
    assert set(shapes["params"]) <= set(model.stage_names)
    assert model.stage_names[-1] == "head"
    assert len(set(model.stage_names)) == len(model.stage_names)
    (features,) = jax.tree.leaves(taps[model.stage_names[-2]])
    assert features.ndim == (4 if maps else 2)


@pytest.mark.slow
def test_examples_are_told_apart(case):
    logits, _ = case.tapped
    assert np.isfinite(logits).all()
    assert np.asarray(logits).std(0).max() > 1e-3 * np.abs(logits).max()


def test_features_are_the_tap_before_the_head(case):
    features = case.run(case.variables, case.x, stop="head")
    features = features["x"] if isinstance(features, dict) else features
    compiled = case.run._cache_size()
    case.run(case.variables, jax.tree.map(lambda leaf: leaf[::-1], case.x), stop="head")
    assert case.run._cache_size() == compiled, "compiled once"
    tapped = case.tapped[1][case.names[-2]]
    tapped = tapped["x"] if isinstance(tapped, dict) else tapped
    np.testing.assert_allclose(features, tapped, atol=1e-6 * np.abs(features).max())


def test_cached_prefix_and_suffix_are_the_whole(case):
    before, after = split_variables(case.variables, case.names[: case.names.index(case.middle)])
    _equal(join_variables(before, after), case.variables)
    whole = case.run(case.variables, case.x)
    between = case.run(before, case.x, stop=case.middle)
    joined = case.run(after, between, start=case.middle)
    if jax.__version_info__ < (0, 11) and not isinstance(case.x, dict):
        _equal(joined, whole)
    else:  # XLA fuses over the place where programs are cut, of texts and in later releases always, and rounds there
        np.testing.assert_allclose(joined, whole, rtol=1e-6, atol=1e-6 * np.abs(whole).max())
    in_parts = [case.run(before, _rows(case.x, i, i + 4), stop=case.middle) for i in (0, 4, 8)]
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *in_parts)
    off = np.abs(case.run(after, joined, start=case.middle) - whole).max()
    assert off <= 1e-5 * max(1, np.abs(whole).max())


@pytest.mark.slow
def test_freezing_at_each_stage(case):
    """For every boundary the statistics of what is frozen come out as they went in; and it has no gradient.

    Read off the program rather than its numbers: an output that is an input cannot have changed. Tracing a gradient
    takes seconds for the largest: the first, the middle and the last boundary have to do.
    """
    x = jax.tree.map(lambda leaf: jnp.zeros((2, *leaf.shape[1:]), leaf.dtype), case.x)
    given = case.variables["batch_stats"]
    for held in range(len(case.names)):
        frozen, trained = split_variables(case.variables, case.names[:held])

        def run(params, statistics, frozen=frozen, held=held):
            whole = {**frozen["params"], **params}
            options = dict(
                train=True, evaluated=case.names[:held], mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
            )
            logits, changed = case.model.apply({"params": whole, "batch_stats": statistics}, x, **options)
            return logits.sum(), changed.get("batch_stats", {})

        if held in (0, len(case.names) // 2, len(case.names) - 1):
            gradient, _ = jax.eval_shape(jax.grad(run, has_aux=True), trained["params"], given)
            assert gradient.keys() == trained["params"].keys() & set(case.names[held:])

        program, (_, changed) = jax.make_jaxpr(run, return_shape=True)(trained["params"], given)
        passed = program.jaxpr.invars[len(jax.tree.leaves(trained["params"])) :]
        came = dict(zip((name for name, _ in walk_shapes(given)), passed, strict=True))
        for (name, _), variable in zip(walk_shapes(changed), program.jaxpr.outvars[1:], strict=True):
            stage = name.split("/")[0]
            assert (variable is came[name]) == (stage in case.names[:held]), f"{name} with {held} frozen stages"


def test_a_new_head(case):
    replaced = jaxdl.replace_head(case.checkpoint, num_outputs=5)
    _equal(split_variables(replaced.variables, ("head",))[1], split_variables(case.variables, ("head",))[1])
    shape = jax.eval_shape(replaced.model.apply, replaced.variables, case.x).shape
    assert shape == (*case.run(case.variables, case.x).shape[:-1], 5)


def test_saved_and_restored(case, tmp_path):
    restored = jaxdl.restore(jaxdl.save(case.checkpoint, tmp_path / "checkpoint"))
    assert restored.model == case.model
    _equal(restored.variables, case.variables)


def test_exported_as_a_program(case, tmp_path):
    """One file for any number of examples, with the logits of `predict`."""
    file = jaxdl.export(case.checkpoint, tmp_path / "out", file_format="stablehlo")
    program = jax.export.deserialize(bytearray(file.read_bytes()))
    expected = jaxdl.predict(case.checkpoint, case.source).outputs
    for count in (1, 5):
        made = program.call(_rows(case.stored, 0, count))
        for one, two in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, two[:count], rtol=1e-5, atol=1e-5 * max(1, np.abs(two).max()))


@pytest.mark.slow
def test_training(case):
    """In bfloat16 and in every mode the loss falls, and what is frozen stays bit for bit.

    Training from scratch, which is full fine-tuning with another beginning, is seen on one network of each family.
    Without dropout: over so few examples its noise is larger than what a few steps learn.
    """
    first = FIRST[type(case.model)] in DISTINCT[_key(case.model)][1]
    if "dropout" in case.model.__dataclass_fields__:
        model = case.model.clone(dropout=0.0)
        case = Case(model, case.variables, case.stored, case.checkpoint.card.preprocessing)
    for mode in MODES if first else MODES[1:]:
        options = {
            "from scratch": {"precision": "bfloat16"},
            # what flows into the head may be large
            "frozen features": {"freeze_through": "body", "learning_rate": 3e-4, "epochs": 20},
            "partial fine-tuning": {"freeze_through": case.names[case.names.index(case.middle) - 1]},
            "full fine-tuning": {"precision": "bfloat16"},
        }[mode]
        plan = jaxdl.Plan(
            **{"epochs": 6, "batch_size": 12, "learning_rate": min(3e-3, case.model.HIGHEST_RATE), **options}
        )
        start = case.model if mode == "from scratch" else case.checkpoint
        tuned = jaxdl.finetune(start, case.source, plan)
        losses = [row["train_loss"] for row in tuned.history]
        assert min(losses[1:]) < losses[0], (mode, losses)
        if mode != "from scratch":
            held = plan.boundary(case.model)
            frozen, _ = split_variables(tuned.variables, case.names[:held])
            _equal(frozen, split_variables(case.variables, case.names[:held])[0])
            moved = [name for name in case.names[held:] if name in case.variables["params"]]
            for name in moved:
                one, two = tuned.variables["params"][name], case.variables["params"][name]
                assert any(
                    not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
                ), (mode, name)
