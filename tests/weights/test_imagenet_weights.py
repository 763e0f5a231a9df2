"""Real weights of ImageNet on photographs, converted by the command line; and the names of ImageNet's classes."""

import zipfile

import jax
import numpy as np
import pytest
from command_line import jaxdl_command
from parity import assert_close, library, to_torch
from test_parity_mobilenet import original

import jaxdl
from jaxdl import data
from jaxdl.weights.checkpoint import from_model
from jaxdl.weights.class_names import imagenet_classes

ANT, BEE = 310, 309
# another implementation's share of right answers on all 397 photographs, of 1,000 classes by the first and by the
# first five, and of ant against bee alone: resizing differs a little
REFERENCE = {"mobilenet_v2": (0.61, 0.84, 0.945), "efficientnet_lite0": (0.675, 0.889, 0.957)}
FEW = 0.0105  # a point, or four of the photographs


@pytest.fixture(scope="module")
def photographs(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hymenoptera")
    with zipfile.ZipFile(real_data / "hymenoptera_s160.zip") as archive:
        archive.extractall(folder)
    (root,) = [path.parent for path in folder.rglob("train") if path.is_dir()]
    return data.folder(root)


@pytest.fixture(scope="module", params=REFERENCE)
def converted(request, real_data, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "checkpoint"
    file = real_data / "weights" / f"{request.param}_imagenet.safetensors"
    jaxdl_command(f"convert --from {file} --model {request.param} --out {out}")
    return jaxdl.restore(out), file


def _prepared(checkpoint, source, count):
    own = checkpoint.card.preprocessing
    few = [own.stored(source[i])["x"] for i in range(0, len(source), len(source) // count)]
    return np.asarray(own.network_input(np.stack(few)))


@pytest.mark.slow
def test_answers_are_those_of_the_original(converted, photographs, tmp_path):
    """torchvision's network, or EfficientNet-PyTorch's and timm's, from the very same file."""
    torch = library("torch")
    checkpoint, file = converted
    x = _prepared(checkpoint, photographs, 12)
    ours = jax.jit(checkpoint.model.apply)(checkpoint.variables, x)
    state = library("safetensors.torch").load_file(file)
    state = {name: t.reshape(()) if name.endswith("num_batches_tracked") else t for name, t in state.items()}
    networks = []
    if "mobilenet" in file.name:
        networks.append(library("torchvision.models").mobilenet_v2())
        networks[0].load_state_dict(state)
    else:
        networks.append(original("efficientnet_lite0"))
        networks[0].load_state_dict(state)
        jaxdl.export(checkpoint, tmp_path / "timm", layout="timm")
        networks.append(library("timm").create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True))
    for network in networks:
        with torch.no_grad():
            theirs = network.eval()(to_torch(x)).numpy()
        assert_close(ours, theirs, file.name)
    back = jaxdl.export(checkpoint, tmp_path / "back")
    again = library("safetensors.torch").load_file(back)
    assert again.keys() == {name for name in state if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.items())


@pytest.mark.slow
def test_ants_and_bees_are_known_without_training_and_by_a_linear_head(converted, photographs):
    """The first by the published preparation; the second, 5 folds of ridge or logistic regression on the features."""
    checkpoint, file = converted
    features = jaxdl.extract_features(checkpoint, photographs)
    logits = np.asarray(checkpoint.model.apply(checkpoint.variables, features, start="head"))
    labels = np.asarray(photographs.targets())
    truth = np.where(labels == photographs.class_names.index("ants"), ANT, BEE)
    best = np.argsort(-logits, 1)[:, :5]
    found = (
        (best[:, 0] == truth).mean(),
        (best == truth[:, None]).any(1).mean(),
        (np.where(logits[:, ANT] > logits[:, BEE], ANT, BEE) == truth).mean(),
    )
    names = checkpoint.card.class_names
    assert (names[ANT], names[BEE]) == ("ant", "bee")
    assert np.abs(np.subtract(found, REFERENCE[file.name.removesuffix("_imagenet.safetensors")])).max() <= FEW, found
    heads = jaxdl.probe(features, labels, probing=jaxdl.Probing(("ridge", "logistic")))
    for name in heads.heads:
        assert abs(heads.result(name).mean - 0.928) <= FEW, (name, heads.result(name).mean)


def test_every_class_of_imagenet_has_a_name_of_its_own():
    """In the order of timm's synsets; whoever ignores capitals keeps them apart, too."""
    names = imagenet_classes()
    assert len(names) == len({name.lower() for name in names}) == 1000
    library("timm")
    info = library("timm.data").ImageNetInfo()
    qualified = {
        "crane (bird)": "n02012849",
        "crane (machine)": "n03126707",
        "maillot (tights)": "n03710637",
        "maillot (tank suit)": "n03710721",
    }
    for index, name in enumerate(names):
        synset, lemmas = info.index_to_label_name(index), info.index_to_description(index).split(", ")
        assert name.split(" (")[0].lower() in [lemma.lower() for lemma in lemmas] or name in info.index_to_description(
            index
        ), (index, name, lemmas)
        assert qualified.get(name, synset) == synset


def test_a_checkpoint_with_the_names_of_before_still_opens(tmp_path):
    old = ("crane bird", "crane", "maillot", "maillot tank suit", "Cardigan", "cardigan")
    model = jaxdl.create("mobilenet_v2", len(old), width=0.25, depths=(1,))
    before = from_model(model, data.ImagePreprocessing((16, 16, 3), (0.5,) * 3, (0.5,) * 3), old)
    assert jaxdl.restore(jaxdl.save(before, tmp_path / "old")).card.class_names == old
