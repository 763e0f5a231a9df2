"""Published CIFAR ResNets: every tensor finds its place, and the network answers as the original does."""

import hashlib
import json

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl.data.preprocessing import RawPreprocessing, TablePreprocessing, normalise
from jaxdl.errors import InputError
from jaxdl.models.variables import walk_shapes
from jaxdl.weights.keys import batch_norm, fill, rename, to_tensors
from jaxdl.weights.read import read_npz_weights, sha256_of
from jaxdl.weights.resnet_cifar import akamaster


def _expected(depth):
    """What akamaster's resnet.py names its tensors: {name: (shape, the leaf it is here)}."""
    made = {"conv1.weight": ((16, 3, 3, 3), "params/stem/conv/kernel")}

    def norm(theirs, ours, width):
        for leaf, place in (("weight", "params/{}/scale"), ("bias", "params/{}/bias")):
            made[f"{theirs}.{leaf}"] = ((width,), place.format(ours))
        for leaf, place in (("mean", "batch_stats/{}/mean"), ("var", "batch_stats/{}/var")):
            made[f"{theirs}.running_{leaf}"] = ((width,), place.format(ours))
        made[f"{theirs}.num_batches_tracked"] = ((), None)

    norm("bn1", "stem/norm", 16)
    inside = 16
    for i, width in enumerate((16, 32, 64), 1):
        for j in range((depth - 2) // 6):
            for n in (1, 2):
                ours = f"stage{i}/block{j + 1}"
                made[f"layer{i}.{j}.conv{n}.weight"] = ((width, inside, 3, 3), f"params/{ours}/conv{n}/kernel")
                norm(f"layer{i}.{j}.bn{n}", f"{ours}/norm{n}", width)
                inside = width
    made["linear.weight"] = ((10, 64), "params/head/dense/kernel")
    made["linear.bias"] = ((10,), "params/head/dense/bias")
    return made


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, (shape, _) in _expected(20).items()}


def _load(tmp_path, tensors, name="resnet20_cifar"):
    np.savez(tmp_path / "w.npz", **tensors)
    return jaxdl.convert(tmp_path / "w.npz", name).checkpoint


def test_every_tensor_finds_its_place(tmp_path, tensors):
    loaded = _load(tmp_path, tensors)
    found = dict(walk_shapes(loaded.variables))
    places = {leaf: name for name, (_, leaf) in _expected(20).items() if leaf}
    assert found.keys() == places.keys()
    for leaf, value in found.items():
        theirs = tensors[places[leaf]]
        if theirs.ndim == 4:  # [out, in, height, width] to [height, width, in, out], one kernel at a time
            moved = np.stack([np.stack(list(kernels), axis=-1) for kernels in theirs], axis=-1)
        else:
            moved = theirs.T
        np.testing.assert_array_equal(value, moved, err_msg=leaf)
    assert loaded.card.class_names[:3] == ("airplane", "automobile", "bird")
    digest = hashlib.sha256((tmp_path / "w.npz").read_bytes()).hexdigest()
    source = loaded.card.source
    assert (source["file"], source["sha256"], source["layout"]) == ("w.npz", digest, "akamaster")
    assert set(source["dropped"]) == {name for name, (_, leaf) in _expected(20).items() if leaf is None}
    assert sha256_of(tmp_path / "w.npz") == digest
    restored = jaxdl.restore(jaxdl.save(loaded, tmp_path / "c"))
    assert restored.card == loaded.card
    jax.tree.map(np.testing.assert_array_equal, restored.variables, loaded.variables)


def test_all_that_does_not_fit_is_listed_at_once(tmp_path, tensors):
    del tensors["layer2.1.bn2.running_var"]
    tensors["layer4.0.conv1.weight"] = np.zeros((64, 64, 3, 3), np.float32)
    tensors["surprise.weight"] = tensors.pop("bn1.weight")
    tensors["linear.weight"] = np.zeros((10, 65), np.float32)
    tensors["layer1.0.conv1.weight"] = np.zeros((16, 16, 3), np.float32)  # not even transposable
    with pytest.raises(InputError, match="do not fit") as caught:
        _load(tmp_path, tensors)
    message = str(caught.value)
    for problem in (
        "batch_stats/stage2/block2/norm2/var (32,): no tensor fills it",
        "layer4.0.conv1.weight (3, 3, 64, 64): would become params/stage4/block1/conv1/kernel, which the model has not",
        "surprise.weight (16,): no row of the table takes it",
        "params/stem/norm/scale (16,): no tensor fills it",
        "linear.weight: becomes params/head/dense/kernel of shape (65, 10), the model's has (64, 10)",
        "layer1.0.conv1.weight (16, 16, 3): cannot become params/stage1/block1/conv1/kernel",
    ):
        assert problem in message


def test_weights_of_another_depth_are_refused(tmp_path, tensors):
    with pytest.raises(InputError, match="look like resnet20_cifar, not like resnet32_cifar"):
        _load(tmp_path, tensors, "resnet32_cifar")
    with pytest.raises(InputError, match=r"params/stage1/block4/conv1/kernel \(3, 3, 16, 16\): no tensor fills it"):
        jaxdl.convert(tmp_path / "w.npz", "resnet20_cifar", arguments={"depths": (4, 3, 3)})
    with pytest.raises(InputError, match=r"'mlp'.*resnet20_cifar"):
        _load(tmp_path, tensors, "mlp")
    with pytest.raises(InputError, match=r"'resnet21_cifar'.*'resnet[0-9]+_cifar'\?"):
        _load(tmp_path, tensors, "resnet21_cifar")


def test_a_leaf_is_filled_once(tensors):
    model = jaxdl.create("resnet20_cifar", 10)
    twice = (*akamaster(model), *batch_norm("again", "stem/norm"))
    with pytest.raises(InputError, match=r"\(1 mism.*\n  again\.weight: params/stem/norm/scale is filled already"):
        fill(rename({**tensors, "again.weight": tensors["bn1.weight"]}, twice), model, (32, 32, 3))


def test_and_back_again(tmp_path, tensors):
    loaded = _load(tmp_path, tensors)
    back = dict(to_tensors(loaded.variables, akamaster(loaded.model)))
    assert back.keys() == {name for name, (_, leaf) in _expected(20).items() if leaf}
    for name, value in back.items():
        np.testing.assert_array_equal(value, tensors[name], err_msg=name)
    with pytest.raises(InputError, match="arrays of the model: params/head/dense/bias"):
        dict(to_tensors(loaded.variables, akamaster(loaded.model)[:-1]))


def test_a_network_for_floats_is_exported_too(tmp_path):
    """Its preprocessing resizes nothing, and timm's configuration says what is known."""
    model = jaxdl.create("resnet18", 3, depths=(1, 1), width=4)
    mean, std = (10.0, 20.0, -30.0), (2.0, 0.5, 1.0)
    floats = jaxdl.from_model(model, TablePreprocessing((24, 16, 3), mean, std), "abc")
    jaxdl.export(floats, tmp_path / "out", layout="timm")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    told = config["pretrained_cfg"]
    assert (told["input_size"], told["mean"], told["std"]) == ([3, 24, 16], list(mean), list(std))
    assert (told["crop_pct"], config["label_names"]) == (1.0, list("abc"))
    raw = jaxdl.from_model(model, RawPreprocessing((("", (24, 16, 3), "float32"),)), "abc")
    with pytest.raises(InputError, match="24×16×3 float32"):
        jaxdl.export(raw, tmp_path / "raw", layout="timm")
    assert not (tmp_path / "raw").exists()


class Bomb:
    """Pickled, it creates the file `path` when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_files_that_are_no_weights(tmp_path, tensors):
    np.savez(tmp_path / "w.npz", **tensors)
    whole, path = (tmp_path / "w.npz").read_bytes(), tmp_path / "bad.npz"
    with pytest.raises(InputError, match=r"no weight file '.*bad\.npz'"):
        read_npz_weights(path)
    np.save(tmp_path / "single.npy", np.zeros(3))
    for content in (b"", b"words", whole[: len(whole) // 2], whole[:-9], (tmp_path / "single.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"'.*bad\.npz' is (damaged|empty)"):
            jaxdl.convert(path, "resnet20_cifar")
    trace = tmp_path / "it ran"
    np.savez(path, **{**tensors, "bn1.weight": np.array([Bomb(trace)], object)})
    with pytest.raises(InputError, match=r"'.*bad\.npz' is damaged"):
        jaxdl.convert(path, "resnet20_cifar")
    assert not trace.exists()


def _published(real_data, depth):
    (path,) = (real_data / "weights").glob(f"cifar10_resnet{depth}-*.npz")
    return path


@pytest.fixture(scope="module")
def test_images(real_data):
    with np.load(real_data / "cifar10_test.npz") as file:
        return jaxdl.data.arrays(file["x"][:2000], file["y"][:2000], class_names=file["class_names"])


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "correct"), [(20, 1626), pytest.param(56, 1673, marks=pytest.mark.slow)])
def test_accuracy_is_the_originals(real_data, test_images, depth, correct):
    """Against PyTorch's number of right answers on the same 2,000 images."""
    loaded = jaxdl.convert(_published(real_data, depth), f"resnet{depth}_cifar").checkpoint
    predictions = jaxdl.predict(loaded, test_images, batch_size=250)
    assert abs(int((predictions.predicted == test_images.labels).sum()) - correct) <= 2
    assert predictions.accuracy == (predictions.predicted == test_images.labels).mean()


def _torch_original(torch, depth):
    """The network of akamaster/pytorch_resnet_cifar10 with option A, names and all."""
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, inside, width, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inside, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
            self.stride, self.new = stride, width - inside

        def forward(self, x):
            y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
            shortcut = x[:, :, :: self.stride, :: self.stride]
            return functional.relu(y + functional.pad(shortcut, (0, 0, 0, 0, self.new // 2, self.new // 2)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            inside = 16
            for i, width in enumerate((16, 32, 64), 1):
                blocks = []
                for j in range((depth - 2) // 6):
                    blocks.append(Block(inside, width, 2 if i > 1 and j == 0 else 1))
                    inside = width
                setattr(self, f"layer{i}", nn.Sequential(*blocks))
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            x = functional.relu(self.bn1(self.conv1(x)))
            return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))

    return Net().eval()


@pytest.mark.parametrize("depth", [20, pytest.param(56, marks=pytest.mark.slow)])
def test_logits_are_the_originals(real_data, test_images, depth):
    torch = pytest.importorskip("torch", reason="the PyTorch reference needs torch: pip install torch")
    path = _published(real_data, depth)
    original = _torch_original(torch, depth)
    with np.load(path) as file:
        original.load_state_dict({name: torch.tensor(file[name]) for name in file.files})
    images = jaxdl.data.subset(test_images, np.arange(64))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        prepared = (torch.tensor(images.x) / 255 - mean) / std
        theirs = original(prepared.permute(0, 3, 1, 2)).numpy()
    assert theirs.std(0).min() > 1, "images are told apart"
    loaded = jaxdl.convert(path, f"resnet{depth}_cifar").checkpoint
    np.testing.assert_allclose(normalise(images.x, np.float32(mean), np.float32(std)), prepared, atol=1e-6)
    ours = jaxdl.predict(loaded, images).logits
    for i in range(64):
        np.testing.assert_allclose(ours[i], theirs[i], atol=2e-3, err_msg=f"image {i}")
