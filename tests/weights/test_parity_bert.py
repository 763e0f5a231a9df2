"""BERT against transformers', from its files and back; and the real MiniLM."""

import json
import warnings

import jax
import numpy as np
import optax
import pytest
from command_line import jaxdl_command, refused
from libraries import library, real_minilm
from safetensors.numpy import save_file

import jaxdl
from jaxdl.errors import InputError
from jaxdl.models import MODELS, create
from jaxdl.models.bert import Bert
from jaxdl.models.initialise import variable_shapes
from jaxdl.models.sequence import token_spec
from jaxdl.models.variables import walk_shapes
from jaxdl.weights.bert import KEYS, to_config
from jaxdl.weights.keys import rename, to_tensors

LENGTH, BATCH, OUTPUTS = 9, 4, 3
CONFIGS = {
    "pooler": dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96),
    "none": dict(
        hidden_size=20,
        num_hidden_layers=3,
        num_attention_heads=5,
        intermediate_size=50,
        type_vocab_size=3,
        layer_norm_eps=1e-6,
    ),
}
KINDS = {"pooler": "BertForSequenceClassification", "none": "BertForTokenClassification"}


def _theirs(kind, config):
    """One of transformers' networks with drawn weights, none of which is trivial."""
    torch, transformers = library("torch"), library("transformers")
    torch.manual_seed(0)
    network = getattr(transformers, kind)(
        transformers.BertConfig(
            **{"vocab_size": 31, "max_position_embeddings": 16, "num_labels": OUTPUTS, "type_vocab_size": 2, **config}
        )
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim == 1:
                parameter.add_(0.3 * noise)
            else:
                parameter.copy_(noise if "embeddings" in name else noise / parameter.shape[1] ** 0.5)
    return network.eval()


@pytest.fixture(scope="module", params=["pooler", pytest.param("none", marks=pytest.mark.slow)])
def network(request):
    return request.param, _theirs(KINDS[request.param], CONFIGS[request.param])


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    """As transformers saves it."""
    place = tmp_path_factory.mktemp("saved") / network[0]
    network[1].save_pretrained(place)
    return place


def _batch(seed=0, types=2):
    """Token 0 pads alone: transformers gives its vector no gradient."""
    rng = np.random.default_rng(seed)
    mask = np.arange(LENGTH) < np.array([LENGTH, 1, 5, 7])[:, None]
    return {
        "tokens": np.where(mask, rng.integers(1, 31, (BATCH, LENGTH)), 0).astype(np.int32),
        "mask": mask,
        "types": rng.integers(0, types, (BATCH, LENGTH), dtype=np.int32),
    }


def _to_torch(x):
    torch = library("torch")
    named = {"input_ids": x["tokens"], "attention_mask": x["mask"], "token_type_ids": x["types"]}
    return {name: torch.tensor(value).long() for name, value in named.items()}


def _run(network, x):
    """Logits and hidden states of transformers' network."""
    with library("torch").no_grad():
        out = network(**_to_torch(x), output_hidden_states=True)
    return out.logits.numpy(), [state.numpy() for state in out.hidden_states]


def test_logits_hidden_states_and_gradients_are_those_of_transformers(network, folder):
    kind, theirs = network
    torch = library("torch")
    converted = jaxdl.convert(folder)
    model, variables = converted.checkpoint.model, converted.checkpoint.variables
    assert (model.pool, model.longest, model.vocabulary) == (kind, 16, 31)
    assert converted.checkpoint.card.preprocessing.describe() == "16 bool, 16 int32"
    x = _batch(types=theirs.config.type_vocab_size)
    logits, states = _run(theirs, x)
    stages = ("embed", *(f"block{i + 1}" for i in range(model.depth)))
    ours, taps = jax.jit(lambda v, x: model.apply(v, x, taps=stages))(variables, x)
    real = x["mask"]
    shown = real if kind == "none" else ...
    assert logits.std(0).min() > 0.05
    np.testing.assert_allclose(np.asarray(ours)[shown], logits[shown], atol=1e-4)
    for stage, state in zip(stages, states, strict=True):
        np.testing.assert_allclose(taps[stage]["hidden"][real], state[real], atol=1e-4, err_msg=stage)

    labels = np.random.default_rng(1).integers(0, OUTPUTS, ours.shape[:-1])
    if kind == "none":
        labels = np.where(real, labels, -100)
    out = theirs(**_to_torch(x), labels=torch.tensor(labels))
    theirs.zero_grad()
    out.loss.backward()
    expected = rename({n: p.grad.numpy() for n, p in theirs.named_parameters()}, KEYS.layouts["huggingface"](model))

    def loss(params):
        logits = model.apply({"params": params}, x)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, np.maximum(labels, 0))
        return (each * (labels >= 0)).sum() / (labels >= 0).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert value == pytest.approx(out.loss.item(), abs=1e-4)
    found = dict(walk_shapes({"params": gradient}))
    assert found.keys() == expected.leaves.keys()
    floor = 1e-3 * np.sqrt(np.mean([np.square(g).sum() for g in expected.leaves.values()]))
    for leaf, ours in found.items():
        off = np.linalg.norm(ours - expected.leaves[leaf]) / max(np.linalg.norm(expected.leaves[leaf]), floor)
        assert off < 1e-3, f"the gradient of {leaf} is off by {off:.2g} of its norm"


def test_exported_it_is_transformers_own_again_bit_by_bit(network, folder, tmp_path):
    kind, theirs = network
    transformers = library("transformers")
    names = {"pooler": ("red", "green", "blue"), "none": None}[kind]
    checkpoint = jaxdl.convert(folder, names=names).checkpoint
    file = jaxdl.export(checkpoint, tmp_path / "out")
    auto = {"pooler": "AutoModelForSequenceClassification", "none": "AutoModelForTokenClassification"}[kind]
    again = getattr(transformers, auto).from_pretrained(file.parent).eval()
    before, after = theirs.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name].numpy(), tensor.numpy(), err_msg=name)
    x = _batch()
    np.testing.assert_array_equal(_run(again, x)[0], _run(theirs, x)[0])
    back = jaxdl.convert(file.parent).checkpoint
    assert back.model == checkpoint.model
    jax.tree.map(np.testing.assert_array_equal, back.variables, checkpoint.variables)
    assert back.card.class_names == (names or ())
    if names:
        assert again.config.id2label == dict(enumerate(names))
    restored = jaxdl.restore(jaxdl.save(back, tmp_path / "checkpoint"))
    assert restored.model == back.model
    assert restored.card == back.card


def test_the_command_converts_a_folder(network, folder, tmp_path):
    said = jaxdl_command(f"convert --from {folder} --out {tmp_path / 'made'} --model-arguments dropout=0.0")
    assert "huggingface's names" in said
    assert "input 16 bool, 16 int32" in said
    assert jaxdl.restore(tmp_path / "made").model.dropout == 0.0
    assert "block2" in jaxdl_command(f"inspect {tmp_path / 'made'}")


SMALL = {"width": 8, "depth": 1, "vocabulary": 5, "longest": 7}


def test_known_sources_are_listed():
    assert "hf:sentence-transformers/all-MiniLM-L6-v2  Apache-2.0" in jaxdl_command("models minilm_l6")
    listed = jaxdl_command("models")
    assert all(f"{name} " in listed for name in ("bert_tiny", "lstm", "textcnn"))


def _save(folder, tensors, **config):
    """A folder of a small BERT with a changed configuration."""
    model = create("bert_tiny", 2, **SMALL)
    folder.mkdir()
    made = to_config(model, ())["config.json"] | config
    (folder / "config.json").write_text(json.dumps(made))
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def tensors():
    """Of a small BERT for classification, with transformers' names."""
    model = create("bert_tiny", 2, **SMALL)
    rng = np.random.default_rng(0)
    shapes = variable_shapes(model, token_spec(4))
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    return dict(to_tensors(variables, KEYS.layouts["huggingface"](model)))


def test_older_names_pretraining_heads_and_buffers_find_their_place(tensors, tmp_path):
    body = {name: value for name, value in tensors.items() if not name.startswith("classifier")}
    old = {name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): v for name, v in body.items()}
    old["bert.embeddings.position_ids"] = np.arange(7)[None]
    old["cls.predictions.bias"] = np.zeros(5, np.float32)
    old["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].copy()
    old["cls.seq_relationship.weight"] = np.zeros((2, 8), np.float32)
    converted = jaxdl.convert(_save(tmp_path / "old", old, architectures=["BertForPreTraining"]))
    assert set(converted.dropped) == {name for name in old if name.startswith("cls.") or name.endswith("position_ids")}
    assert "the weights have no head" in converted.notes[0]
    whole = jaxdl.convert(_save(tmp_path / "whole", tensors)).checkpoint
    for leaf, value in walk_shapes({"params": converted.checkpoint.variables["params"]}):
        if not leaf.startswith("params/head"):
            np.testing.assert_array_equal(value, dict(walk_shapes(whole.variables))[leaf])
    alone = {name.removeprefix("bert."): value for name, value in body.items()}
    again = jaxdl.convert(_save(tmp_path / "alone", alone, architectures=["BertModel"])).checkpoint
    jax.tree.map(np.testing.assert_array_equal, again.variables, converted.checkpoint.variables)
    assert again.model.pool == "pooler"
    with pytest.raises(InputError, match="the checkpoint was converted without a head"):
        jaxdl.predict(again, jaxdl.data.Arrays(_tokens(7), np.zeros(2, np.int32), ("a", "b")))


def _tokens(length):
    return {"tokens": np.ones((2, length), np.int32), "mask": np.ones((2, length), bool)}


def test_what_does_not_fit_is_listed(tensors, tmp_path):
    changed = dict(tensors) | {"surprise": np.zeros(3, np.float32)}
    changed["bert.embeddings.position_embeddings.weight"] = np.zeros((8, 8), np.float32)
    del changed["bert.pooler.dense.bias"]
    with pytest.raises(InputError, match=r"\(3 mismatches\)") as caught:
        jaxdl.convert(_save(tmp_path / "changed", changed))
    for problem in (
        "surprise (3,): no row of the table takes it",
        "becomes params/embed/positions/table of shape (8, 8), the model's has (7, 8)",
        "params/pool/dense/bias (8,): no tensor fills it",
    ):
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [{"hidden_act": "relu"}, {"position_embedding_type": "relative_key"}, {"is_decoder": True}],
)
def test_another_kind_of_bert_is_refused(config, tensors, tmp_path):
    with pytest.raises(InputError, match="describes a 'bert', which is not a model of jaxdl"):
        jaxdl.convert(_save(tmp_path / "other", tensors, **config))


def test_sentence_transformers_that_pool_in_another_way_are_refused(tensors, tmp_path):
    place = _save(tmp_path / "other", tensors)
    (place / "1_Pooling").mkdir()
    (place / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(InputError, match="pooling_mode_max_tokens"):
        jaxdl.convert(place)


def test_bad_requests_are_refused(tensors, tmp_path):
    place = _save(tmp_path / "whole", tensors)
    for arguments, message in (
        ({"preprocessing": {"image_size": 3}}, r"image_size; expected length: 'bert_tiny' reads tokens"),
        ({"preprocessing": {"length": 8}}, r"the input has 8 positions, and the network knows 7"),
        ({"channels": 1}, "takes no images"),
        ({"channel_order": "bgr"}, "takes no images"),
    ):
        with pytest.raises(InputError, match=message):
            jaxdl.convert(place, "bert_tiny", arguments=SMALL, **arguments)
    pieces = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one")
    (place / "vocab.txt").write_text("\n".join(pieces))
    with pytest.raises(InputError, match="knows 6 tokens, and the network has vectors for 5: it is another network's"):
        jaxdl.convert(place)
    (place / "vocab.txt").write_text("\n".join(pieces[:5]))
    whole = jaxdl.convert(place).checkpoint.card.preprocessing
    assert whole.describe() == "text of up to 7 tokens"
    shorter = jaxdl.convert(place, preprocessing={"length": 4}).checkpoint.card.preprocessing
    source = jaxdl.data.texts(["a b c d", "a b"])
    with pytest.warns(UserWarning, match=r"cut: 1 of 2 texts\. .*preprocessing=\{'length': …\}"):
        assert shorter.load(source)["tokens"].shape == (2, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert whole.load(source)["tokens"].shape == (2, 7)
    (tmp_path / "empty").mkdir()
    assert "holds neither model.safetensors" in refused(f"convert --from {tmp_path / 'empty'} --out {tmp_path / 'x'}")
    (place / "config.json").unlink()
    with pytest.raises(InputError, match="Name it: --model NAME"):
        jaxdl.convert(place)


@pytest.mark.slow
def test_an_answer_for_each_token_is_no_answer_for_an_example():
    source = jaxdl.data.Arrays(_tokens(5), np.array([0, 1], np.int32), ("a", "b"))
    with pytest.raises(InputError, match=r"pool='none' gives an answer for each token.*pool='mean'"):
        jaxdl.pretrain(create("bert_tiny", 2, **SMALL, pool="none"), source, jaxdl.Plan(epochs=1))
    trained = jaxdl.pretrain(create("bert_tiny", 2, **SMALL, pool="mean"), source, jaxdl.Plan(epochs=1))
    assert jaxdl.predict(trained, source).outputs.shape == (2, 2)


@pytest.mark.slow
def test_weights_without_a_configuration_are_recognised(tmp_path):
    model = create("bert_tiny", 2)
    shapes = variable_shapes(model, token_spec(4))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    file = tmp_path / "weights.safetensors"
    save_file(dict(to_tensors(variables, KEYS.layouts["huggingface"](model))), file)
    with pytest.raises(InputError, match="They look like bert_tiny: --model bert_tiny"):
        jaxdl.convert(file)
    assert jaxdl.convert(file, "bert_tiny").checkpoint.model == model


NAMES = [name for name, entry in MODELS.items() if entry.family is Bert]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_key_tables_are_complete_and_sizes_are_transformers_own(name):
    torch, transformers = library("torch"), library("transformers")
    model = create(name, 2)
    held = to_config(model, ())["config.json"]
    with torch.device("meta"):
        theirs = transformers.BertForSequenceClassification(transformers.BertConfig(**held))
    table = KEYS.layouts["huggingface"](model)
    shapes = {leaf: value.shape for leaf, value in walk_shapes(variable_shapes(model, MODELS[name].example()))}
    filled = {}
    for tensor, value in theirs.state_dict().items():
        row = next(row for row in table if row.leaves_of(tensor) is not None)
        for leaf in row.leaves_of(tensor):
            (made,) = row.change.to_ours(np.broadcast_to(np.float32(0), value.shape))
            assert leaf not in filled
            filled[leaf] = made.shape
    assert filled == shapes
    pooler = sum(p.numel() for n, p in theirs.named_parameters() if n.startswith("bert.pooler"))
    count = sum(p.numel() for p in theirs.parameters()) - (pooler if model.pool == "mean" else 0)
    assert count == MODELS[name].parameters


SENTENCES = (
    "A man is eating food.",
    "Padding must not change what a sentence means, however long its neighbours in the batch are.",
    "",
    "日本語 and ÜMLAUTS, too!",
)


@pytest.mark.slow
def test_the_real_minilm_gives_transformers_hidden_states_and_embeddings(tmp_path):
    place, torch, transformers = real_minilm(), library("torch"), library("transformers")
    theirs = transformers.BertModel.from_pretrained(place).eval()
    encoded = transformers.AutoTokenizer.from_pretrained(place)(list(SENTENCES), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = theirs(**encoded, output_hidden_states=True).hidden_states
    mask = encoded["attention_mask"].numpy()
    converted = jaxdl.convert(place)
    model, variables = converted.checkpoint.model, converted.checkpoint.variables
    assert (converted.name, model.pool) == ("minilm_l6", "mean")
    x = {"tokens": encoded["input_ids"].numpy().astype(np.int32), "mask": mask}
    stages = ("embed", *(f"block{i + 1}" for i in range(6)))
    embeddings, taps = jax.jit(lambda v, x: model.apply(v, x, stop="head", taps=stages))(variables, x)
    real = mask.astype(bool)
    for stage, state in zip(stages, states, strict=True):
        np.testing.assert_allclose(taps[stage]["hidden"][real], state.numpy()[real], atol=1e-4, err_msg=stage)
    last, weights = states[-1].numpy(), mask[..., None]
    expected = (last * weights).sum(1) / weights.sum(1)
    np.testing.assert_allclose(embeddings, expected, atol=1e-4)
    assert np.abs(expected).mean() > 0.1
    file = jaxdl.export(converted.checkpoint, tmp_path / "out")
    again = transformers.BertModel.from_pretrained(file.parent, add_pooling_layer=False)
    for name, tensor in again.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), theirs.state_dict()[name].numpy(), err_msg=name)
    back = jaxdl.convert(file.parent).checkpoint
    assert back.model == model
    assert back.card.preprocessing == converted.checkpoint.card.preprocessing
    ours = transformers.AutoTokenizer.from_pretrained(file.parent)(list(SENTENCES)[:2])["input_ids"]
    assert ours == transformers.AutoTokenizer.from_pretrained(place)(list(SENTENCES)[:2])["input_ids"]
