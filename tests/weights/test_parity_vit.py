"""Vision transformers against timm's, torchvision's and transformers', and google-research's files read by timm."""

import json

import jax
import numpy as np
import pytest
from family_checks import (
    all_models,
    assert_complete,
    assert_trains_alike,
    logits_alone,
    parameter_count,
    slow_but,
    without_values,
)
from parity import assert_close, assert_parity, calibrated, images, library, tensors_of, to_torch

from jaxdl.errors import InputError
from jaxdl.models import MODELS, create, describe
from jaxdl.models.initialise import init_variables
from jaxdl.models.vit import ViT
from jaxdl.weights.convert import convert
from jaxdl.weights.hub_config import timm_of_model
from jaxdl.weights.keys import fill, rename, to_tensors
from jaxdl.weights.vit import KEYS, image_size, resample_positions

NAMES = [name for name, entry in MODELS.items() if entry.family is ViT and name != "vit"]
CASES = [
    (name, layout)
    for name in NAMES
    for layout in ("timm", "torchvision", "transformers")
    if layout != "torchvision" or name in ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14")
]
QUICK = [("vit_b_16", "torchvision"), ("vit_ti_16", "timm"), ("deit_ti_16_distilled", "transformers")]
EXACT = {"transformers": {"epsilon": 1e-12}}  # of the others 1e-6, as here
SMALL = {"patch_size": 16, "width": 48, "depth": 2, "num_heads": 3, "mlp_width": 96}


def _made(name, layout, side, outputs=1000, **changes):
    """The network `name`, or one with other `changes` of its arguments, for images of `side` pixels."""
    if changes:
        return _of_arguments(layout, side, outputs, {**MODELS[name].arguments, **changes})
    if layout == "timm":
        return library("timm").create_model(timm_of_model(create(name, 1)), img_size=side, num_classes=outputs)
    if layout == "torchvision":
        return getattr(library("torchvision.models"), name)(image_size=side)
    return _of_arguments(layout, side, outputs, MODELS[name].arguments)


def _of_arguments(layout, side, outputs, arguments):
    patch, width, depth, heads = (arguments[key] for key in ("patch_size", "width", "depth", "num_heads"))
    hidden, distilled = arguments.get("mlp_width") or 4 * width, arguments.get("distilled", False)
    mean, representation = arguments.get("pool") == "mean", arguments.get("representation")
    if layout == "torchvision":
        return library("torchvision.models").VisionTransformer(
            side, patch, depth, heads, width, hidden, num_classes=outputs, representation_size=representation
        )
    if layout == "timm":
        timm = library("timm.models")
        kind = timm.deit.VisionTransformerDistilled if distilled else timm.vision_transformer.VisionTransformer
        pooling = dict(class_token=False, global_pool="avg", fc_norm=False) if mean else {}
        return kind(
            side, patch, 3, outputs, embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=hidden / width, **pooling
        )
    transformers = library("transformers")
    config = (transformers.DeiTConfig if distilled else transformers.ViTConfig)(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=hidden,
        image_size=side,
        patch_size=patch,
        num_labels=outputs,
    )
    if distilled:
        return logits_alone(transformers.DeiTForImageClassificationWithTeacher(config))
    return logits_alone(transformers.ViTForImageClassification(config))


def _varied(network, side):
    """Calibrated, and with larger kernels and tokens than fresh ones, to which most images are alike."""
    torch = library("torch")
    calibrated(network, side)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 3:  # tokens and positions
                parameter.normal_(std=0.2)
            elif parameter.ndim > 1:
                parameter.normal_(std=(parameter.numel() / len(parameter)) ** -0.5)
    return network


def _stages(name, layout, depth):
    """Embedding, first, middle and last block."""
    base = "deit" if "distilled" in name else "vit"
    embed, block = {
        "timm": ("pos_drop", "blocks.{}"),
        "torchvision": ("encoder.dropout", "encoder.layers.encoder_layer_{}"),
        "transformers": (f"{base}.embeddings", base + ".layers.{}"),
    }[layout]
    return {"embed": embed, **{f"block{i + 1}": block.format(i) for i in (0, depth // 2, depth - 1)}}


def _check(name, layout, side, **changes):
    depth = changes.get("depth") or MODELS[name].arguments["depth"]
    network = _varied(_made(name, layout, side, 10 if changes else 1000, **changes), side)
    arguments = {**EXACT.get(layout, {}), **changes}
    stages = _stages(name, layout, depth)
    return assert_parity(name, network, KEYS, layout, side=side, stages=stages, arguments=arguments)[2]


@pytest.mark.slow
def test_deit_ti_16_distilled_is_timms():
    _check("deit_ti_16_distilled", "timm", 224)


@pytest.mark.parametrize(
    ("name", "layout", "side", "changes"),
    [
        ("vit_b_16", "torchvision", 48, SMALL | {"representation": 32}),
        pytest.param("vit_b_16", "transformers", 48, SMALL, marks=pytest.mark.slow),
        pytest.param("deit_b_16_distilled", "transformers", 64, SMALL, marks=pytest.mark.slow),
        ("vit_b_16", "timm", 64, SMALL | {"pool": "mean"}),
    ],
)
def test_small_ones_are_theirs(name, layout, side, changes):
    _check(name, layout, side, **changes)


@all_models
@pytest.mark.parametrize(("name", "layout"), CASES)
def test_every_network_is_theirs(name, layout, record_property):
    patch = MODELS[name].arguments["patch_size"]
    for side in (224, 10 * patch):
        off = _check(name, layout, side)
        record_property(f"{side}", {stage: float(f"{value:.2g}") for stage, value in off.items()})


@pytest.mark.parametrize(("name", "layout"), slow_but(QUICK, CASES))
def test_key_tables_are_complete(name, layout):
    assert_complete(name, without_values(_made, name, layout, 224), KEYS, layout)


@pytest.mark.parametrize("name", slow_but(["vit_b_16"], [name for name, layout in CASES if layout == "torchvision"]))
def test_size_is_the_published(name):
    published = library("torchvision.models").get_model_weights(name)
    sizes = {weights.meta["num_params"] for weights in published if weights.meta["min_size"] == (224, 224)}
    assert sizes == {parameter_count(name)}


@pytest.mark.slow
def test_it_trains_as_timms_does():
    name = "deit_ti_16_distilled"
    network = _varied(_made(name, "timm", 32, 10, **SMALL), 32)
    assert_trains_alike(name, network, KEYS, "timm", side=32, arguments=SMALL)


def _drawn(name="vit_b_16", side=48, **changes):
    """A small model with variables in which nothing is zero."""
    model = create(name, 10, **{**SMALL, **changes})
    shapes = jax.eval_shape(lambda key: init_variables(model, key, (side, side, 3)), jax.random.key(0))
    rng = np.random.default_rng(0)
    draw = lambda leaf: rng.normal(1 if leaf.ndim == 1 else 0, 0.2, leaf.shape).astype(np.float32)  # noqa: E731
    return model, jax.tree.map(draw, shapes)


def _same_logits(model, variables, network, side=48):
    x = images(side)
    with library("torch").no_grad():
        theirs = network.eval()(to_torch(x)).numpy()
    assert_close(jax.jit(model.apply)(variables, x), theirs, "logits")


def test_googles_files_are_read_as_timm_reads_them(tmp_path):
    model, variables = _drawn()
    np.savez(tmp_path / "vit.npz", **dict(to_tensors(variables, KEYS.layouts["google"](model))))
    network = _made("vit_b_16", "timm", 48, 10, **SMALL)
    network.load_pretrained(str(tmp_path / "vit.npz"))
    _same_logits(model, variables, network)


def test_big_visions_files_are_read_as_timm_reads_them(tmp_path):
    """There each kind of layer of a block is numbered by itself, and the class token comes after the positions."""
    model, variables = _drawn()
    table = KEYS.layouts["google"](model)
    renamed = {"MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0", "MlpBlock_3": "MlpBlock_0"}
    renamed |= {"LayerNorm_2": "LayerNorm_1", "Transformer/posembed_input/pos_embedding": "pos_embedding"}
    tensors = {}
    for name, tensor in to_tensors(variables, table):
        for theirs, newer in renamed.items():
            name = name.replace(theirs, newer)
        tensors[f"params/{name}"] = tensor[:, 1:] if name == "pos_embedding" else tensor
    np.savez(tmp_path / "vit.npz", **tensors, **{"opt/0/count": np.array(3)})
    made = convert(tmp_path / "vit.npz", "vit_b_16", arguments=SMALL)
    assert list(made.dropped) == ["opt/0/count"]
    network = library("timm").models.vision_transformer.VisionTransformer(
        48, 16, num_classes=10, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2, no_embed_class=True
    )
    network.load_pretrained(str(tmp_path / "vit.npz"))
    _same_logits(model, made.checkpoint.variables, network)


@pytest.mark.parametrize("changes", [{}, {"representation": 24}, {"pool": "mean"}])
def test_googles_names_lead_there_and_back(changes):
    model, variables = _drawn(**changes)
    table = KEYS.layouts["google"](model)
    tensors = dict(to_tensors(variables, table))
    assert tensors["Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/kernel"].shape == (48, 3, 16)
    assert tensors["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/out/kernel"].shape == (3, 16, 48)
    again = fill(rename(tensors, table), model, (48, 48, 3))
    jax.tree.map(np.testing.assert_array_equal, again, variables)


@pytest.mark.parametrize("name", slow_but(["vit_b_16"], ["vit_b_16", "deit_b_16_distilled"]))
def test_the_hubs_files_are_read_as_transformers_reads_them(name, tmp_path):
    model, variables = _drawn(name, epsilon=1e-12)
    tensors = dict(to_tensors(variables, KEYS.layouts["huggingface"](model)))
    network = _made(name, "transformers", 48, 10, **SMALL)
    network.config.save_pretrained(tmp_path)
    from safetensors.numpy import save_file

    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    read, said = type(network).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(said.values()), said
    _same_logits(model, variables, logits_alone(read))

    base = "deit" if model.distilled else "vit"
    pooler = {f"{base}.pooler.dense.weight": np.zeros((48, 48)), f"{base}.pooler.dense.bias": np.zeros(48)}
    renamed = rename({**tensors, **pooler}, KEYS.layouts["huggingface"](model))
    assert set(renamed.dropped) == set(pooler)
    jax.tree.map(np.testing.assert_array_equal, fill(renamed, model, (48, 48, 3)), variables)


def test_torchvisions_older_names_are_read_too():
    model, variables = _drawn()
    table = KEYS.layouts["torchvision"](model)
    older = {
        name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): tensor
        for name, tensor in to_tensors(variables, table)
    }
    network = _made("vit_b_16", "torchvision", 48, 10, **SMALL)
    torch = library("torch")
    network.load_state_dict({name: torch.tensor(tensor) for name, tensor in older.items()})  # without a version: older
    _same_logits(model, variables, network)
    jax.tree.map(np.testing.assert_array_equal, fill(rename(older, table), model, (48, 48, 3)), variables)


@pytest.mark.parametrize(
    ("grid", "new", "prefix"),
    [((7, 7), (12, 12), 1), ((14, 10), (9, 5), 2), ((5, 8), (5, 8), 0), ((6, 4), (3, 9), 1), ((24, 24), (14, 14), 1)],
)
def test_positions_are_resampled_as_timm_does(grid, new, prefix):
    torch, layers = library("torch"), library("timm.layers")
    position = np.random.default_rng(0).normal(size=(1, prefix + grid[0] * grid[1], 6)).astype(np.float32)
    theirs = layers.resample_abs_pos_embed(torch.tensor(position), list(new), list(grid), prefix)
    np.testing.assert_allclose(resample_positions(position, grid, new, prefix), theirs, atol=1e-5)


def test_images_of_another_shape_are_seen_as_timm_sees_them():
    name, small = "deit_ti_16_distilled", SMALL
    network = _varied(_made(name, "timm", 64, 10, **small), 64)
    model = create(name, 10, **small)
    variables = fill(rename(tensors_of(network), KEYS.layouts["timm"](model)), model, (64, 64, 3))
    network.set_input_size((96, 48))
    embed = variables["params"]["embed"]
    embed["position"] = resample_positions(embed["position"], (4, 4), (6, 3), len(model.tokens))
    x = images(96)[:, :, :48]
    with library("torch").no_grad():
        theirs = network(to_torch(x)).numpy()
    assert_close(jax.jit(model.apply)(variables, x), theirs, "logits")


def test_the_number_of_positions_tells_the_size_of_the_images():
    for name in ("vit_b_16", "deit_b_16_distilled"):
        model, variables = _drawn(name, side=80)
        assert image_size(model, {"params/embed/position": variables["params"]["embed"]["position"]}) == 80
    model, variables = _drawn(pool="mean", side=32)
    position = variables["params"]["embed"]["position"]
    assert image_size(model, {"params/embed/position": position}) == 32
    for wrong in ({}, {"params/embed/position": position[:, :3]}, {"params/embed/position": position[:, :0]}):
        with pytest.raises(InputError, match="0 tokens and a square of patches"):
            image_size(model, wrong)


@pytest.mark.slow
def test_slices_frozen_stages_and_bfloat16():
    model, variables = _drawn("deit_s_16_distilled", side=32, depth=1, stochastic_depth=0.5, dropout=0.5)
    name, arguments = describe(model)
    assert create(name, 10, **json.loads(json.dumps(arguments))) == model
    assert model.stage_names == ("embed", "block1", "pool", "head")
    half = create(name, 10, **{**arguments, "dtype": "bfloat16"})
    x = images(32)

    @jax.jit
    def ways(variables, key):
        rngs = {"dropout": key}
        features = model.apply(variables, x, stop="head")
        return {
            "features": features,
            "whole": model.apply(variables, x),
            "parts": model.apply(variables, features, start="head"),
            "frozen": model.apply(variables, x, train=True, evaluated=model.stage_names, rngs=rngs),
            "training": model.apply(variables, x, train=True, evaluated=("embed",), rngs=rngs),
            "half": half.apply(variables, x),
        }

    found = ways(variables, jax.random.key(0))
    assert found["features"].shape == (2, 96)
    np.testing.assert_allclose(found["parts"], found["whole"], atol=1e-5)
    np.testing.assert_allclose(found["frozen"], found["whole"], atol=1e-5)
    assert np.abs(found["training"] - found["whole"]).max() > 1e-2
    assert found["half"].dtype == "bfloat16"
    assert 0 < np.abs(found["half"].astype(np.float32) - found["whole"]).max() < 0.05 * np.std(found["whole"])


def test_stochastic_depth_leaves_branches_out_by_example():
    model, variables = _drawn(side=32, stochastic_depth=0.75, depth=3)
    for block in ("block2", "block3"):  # attention's branch alone
        variables["params"][block]["mlp2"] = jax.tree.map(np.zeros_like, variables["params"][block]["mlp2"])
    x = images(32, 64)

    @jax.jit
    def train(variables, key):
        """What flows out of the three blocks in training, and what would flow out of each in use."""
        taps = ("block1", "block2", "block3")
        _, out = model.apply(variables, x, taps=taps, train=True, rngs={"dropout": key})
        flows = [model.apply(variables, x, stop="block1"), *(out[block] for block in taps)]
        ends = ("block2", "block3", "pool")
        still = [model.apply(variables, flow, start=b, stop=e) for flow, b, e in zip(flows, taps, ends, strict=False)]
        return flows, still

    flows, still = train(variables, jax.random.key(0))
    np.testing.assert_allclose(flows[1], still[0], atol=1e-4)  # the first is never left out
    for i, share in ((1, 0.375), (2, 0.75)):
        moved, branch = np.asarray(flows[i + 1] - flows[i]), np.asarray(still[i] - flows[i])
        factor = (moved * branch).sum((1, 2)) / (branch**2).sum((1, 2))
        left_out = np.abs(factor) < 1e-3
        np.testing.assert_allclose(factor[~left_out], 1 / (1 - share), rtol=1e-3)
        np.testing.assert_allclose(moved, factor[:, None, None] * branch, atol=1e-3)
        assert abs(left_out.mean() - share) < 0.2


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("deit_b_16_distilled", {"pool": "mean"}, "distilled=True has pool='token' .* not pool='mean'"),
        ("vit", {"distilled": True, "representation": 8}, "not pool='token' and representation=8"),
        ("vit_b_16", {"stochastic_depth": 1.0}, "stochastic_depth of a vit is 1.0; expected a share"),
        ("vit_b_16", {"epsilon": 0.0}, "epsilon of a vit is 0.0"),
        ("vit_h_14", {"num_heads": 7}, "width 1280 cannot be divided among 7 attention heads"),
    ],
)
def test_what_cannot_be_is_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        create(name, 3, **arguments)
