"""Published weights from every kind of file and from the hub, in Python and on the command line; and back."""

import dataclasses
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest
from command_line import call, jaxdl_command, read_csv, refused
from parity import calibrated, library, to_torch
from PIL import Image

import jaxdl
from jaxdl.data.preprocessing import RawPreprocessing
from jaxdl.errors import InputError
from jaxdl.models.variables import walk_shapes
from jaxdl.weights.adapt import reverse_channels, with_channels

SIDE, OUTPUTS = 32, 7
MODEL = "--model resnet18 --model-arguments depths=[1,1,1]"
ARGUMENTS = {"depths": (1, 1, 1)}


@pytest.fixture(scope="module")
def network():
    """A small ResNet of torchvision's parts, whose weights are not those of a fresh one."""
    torch = library("torch")
    resnet = library("torchvision.models.resnet")

    class Small(resnet.ResNet):
        def __init__(self):
            super().__init__(resnet.BasicBlock, [1, 1, 1, 1], num_classes=OUTPUTS)
            self.layer4, self.fc = torch.nn.Identity(), torch.nn.Linear(256, OUTPUTS)

    made = calibrated(Small(), 64)
    with torch.no_grad():
        made.fc.weight.mul_(4)  # so that its answers are far from even odds
    return made


def _write(network, path, kind):
    torch = library("torch")
    state = network.state_dict()
    if kind == "safetensors":
        library("safetensors.torch").save_file(state, path)
    elif kind == "npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    elif kind == "parallel":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    elif kind == "half":
        torch.save({k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind != "legacy")
    return path


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    return _write(network, tmp_path_factory.mktemp("weights") / "w.safetensors", "safetensors")


@pytest.fixture(scope="module")
def converted(weights):
    return jaxdl.convert(weights, "resnet18", arguments=ARGUMENTS, preprocessing={"image_size": SIDE})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for i in range(4):
            pixels = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((75, 60), 3).save(folder / name / f"{i}.png")
    return folder


def _theirs(network, checkpoint, photos):
    """What the original says to the photographs, prepared by torchvision."""
    torch = library("torch")
    transforms = library("torchvision.transforms")
    own = checkpoint.card.preprocessing
    prepare = transforms.Compose(
        [
            transforms.Resize(int(SIDE / own.crop_fraction)),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize(own.mean, own.std),
        ]
    )
    files = sorted(photos.glob("*/*.png"))
    with torch.no_grad():
        return network(torch.stack([prepare(Image.open(file).convert("RGB")) for file in files])).numpy()


@pytest.mark.parametrize("kind", ["safetensors", "npz", "zip", "legacy", "parallel", "half"])
def test_every_kind_of_file_gives_the_same(network, converted, tmp_path, kind):
    suffix = {"safetensors": ".safetensors", "npz": ".npz", "legacy": ".th"}.get(kind, ".pth")
    path = _write(network, tmp_path / f"w{suffix}", kind)
    again = jaxdl.convert(path, "resnet18", arguments=ARGUMENTS, preprocessing={"image_size": SIDE})
    assert again.layout == "torchvision"
    assert {name.rsplit(".", 1)[1] for name in again.dropped} == {"num_batches_tracked"}
    found, expected = dict(walk_shapes(again.checkpoint.variables)), dict(walk_shapes(converted.checkpoint.variables))
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected[name], rtol=1 / 128 if kind == "half" else 0, err_msg=name)


def test_it_predicts_what_the_original_predicts(network, weights, photos, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join("abcdefg"))
    out = jaxdl_command(
        f"convert {MODEL} --from {weights} --image-size {SIDE} --out {tmp_path / 'ckpt'} "
        f"--class-names {tmp_path / 'names.txt'}"
    )
    assert "resnet18 from w.safetensors (torchvision's names, sha256 " in out
    assert f"input {SIDE}×{SIDE}×3, bilinear, crop 0.875; 7 classes (a, b, c, d, e, …)" in out
    checkpoint = jaxdl.restore(tmp_path / "ckpt")
    jaxdl_command(f"predict --checkpoint {tmp_path / 'ckpt'} --data {photos} --out {tmp_path / 'p.csv'}")
    rows = read_csv(tmp_path / "p.csv")
    logits = _theirs(network, checkpoint, photos)
    assert [row["predicted"] for row in rows] == ["abcdefg"[i] for i in logits.argmax(1)]
    odds = np.exp(logits - logits.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    found = np.array([[float(row[f"p:{name}"]) for name in "abcdefg"] for row in rows])
    assert odds.std(0).max() > 0.01, "photographs are told apart"
    np.testing.assert_allclose(found, odds, atol=2e-5)


def test_there_and_back(network, converted, tmp_path):
    torch = library("torch")
    for kind in ("safetensors", "npz"):
        file = jaxdl.export(converted.checkpoint, tmp_path / kind, file_format=kind)
        assert file == tmp_path / kind / f"model.{kind}"
        again = jaxdl.convert(file, "resnet18", arguments=ARGUMENTS, preprocessing={"image_size": SIDE})
        jax.tree.map(np.testing.assert_array_equal, again.checkpoint.variables, converted.checkpoint.variables)
    jaxdl.save(converted.checkpoint, tmp_path / "ckpt")
    jaxdl_command(f"export {tmp_path / 'ckpt'} --format safetensors --out {tmp_path / 'back'}")
    state = library("safetensors.torch").load_file(tmp_path / "back" / "model.safetensors")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(state)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) or name.endswith("num_batches_tracked"), name
    assert "is a folder that is not empty" in refused(f"export {tmp_path / 'ckpt'} --out {tmp_path / 'back'}")
    assert "unknown layout" in refused(f"export {tmp_path / 'ckpt'} --out {tmp_path / 'x'} --layout keras")
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_fine_tuned_network_goes_back_to_timm(tmp_path):
    """timm makes it from the folder, config.json and all, and says the same."""
    torch, timm = library("torch"), library("timm")
    model = jaxdl.create("resnet18", OUTPUTS)
    preprocessing = jaxdl.data.ImagePreprocessing((64, 64, 3), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "bicubic", 0.9)
    rng = np.random.default_rng(0)
    fresh = jaxdl.from_model(model, preprocessing, "abcdefg")
    variables = jax.tree.map(lambda leaf: leaf + 0.02 * rng.random(leaf.shape, np.float32), fresh.variables)
    jaxdl.export(jaxdl.Checkpoint(model, variables, fresh.card), tmp_path / "out", layout="timm")
    network = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert network.pretrained_cfg["mean"] == [0.4, 0.5, 0.6]
    assert timm.data.resolve_data_config(model=network)["crop_pct"] == 0.9
    x = rng.normal(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = network(to_torch(x)).numpy()
    ours = jax.jit(model.apply)(variables, x)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    back = jaxdl.convert(tmp_path / "out" / "model.safetensors").checkpoint  # config.json says what it is
    assert back.card.preprocessing == preprocessing
    assert back.card.class_names == tuple("abcdefg")


class Bomb:
    """Pickled, it creates the file `path` when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def _mistakes(network, folder):
    """Name of a file, what is written to it, and what the message says."""
    torch, save = library("torch"), library("safetensors.torch").save_file
    state = dict(network.state_dict())
    save(state, folder / "whole.safetensors")
    torch.save(state, folder / "whole.pth")
    whole = {kind: (folder / f"whole.{kind}").read_bytes() for kind in ("safetensors", "pth")}

    def written(name, content):
        (folder / name).write_bytes(content)
        return folder / name

    def saved(name, tensors):
        save({k: v.contiguous() for k, v in tensors.items()}, folder / name)
        return folder / name

    def torch_saved(name, held):
        torch.save(held, folder / name)
        return folder / name

    yield folder / "none.pth", "there is no weight file or folder"
    yield folder, "holds neither model.safetensors nor pytorch_model.bin, but: "
    yield written("empty.safetensors", b""), "is empty: fetch it again"
    yield written("notes.txt", b"words"), "its name must end in .safetensors, .pth"
    for kind in whole:
        for share in (0.01, 0.5, 0.999):
            yield written(f"cut{share}.{kind}", whole[kind][: int(share * len(whole[kind]))]), "cut short"
        yield written(f"words.{kind}", b"words and more words"), "of another kind"
    yield written("resnet18-00000000.pth", whole["pth"]), "its name says 00000000"
    yield (
        torch_saved("bomb.pth", {**state, "x": Bomb(folder / "it ran")}),
        "would run code, which is refused",
    )
    yield torch_saved("list.pth", [1, 2]), "holds a list; expected a state_dict"
    yield torch_saved("none_in_it.pth", {"epoch": 3}), "holds no tensors by name"
    yield (
        saved("extra.safetensors", {**state, "surprise": torch.zeros(3)}),
        "surprise (3,): no row of the table takes it",
    )
    fewer = {k: v for k, v in state.items() if k != "layer2.0.bn1.bias"}
    yield saved("fewer.safetensors", fewer), "params/stage2/block1/norm1/bias (128,): no tensor fills it"
    turned = {**state, "conv1.weight": torch.zeros(64, 3, 3, 3)}
    yield saved("turned.safetensors", turned), "the model's has (7, 7, 3, 64)"
    flat = {**state, "layer1.0.conv1.weight": torch.zeros(64, 9)}
    yield saved("flat.safetensors", flat), "layer1.0.conv1.weight (64, 9): cannot become"
    other = {"features.0.weight": torch.zeros(64, 3, 3, 3), "classifier.6.bias": torch.zeros(1000)}
    yield saved("other.safetensors", other), "no tensor fills it"


def test_bad_files_are_refused_and_nothing_is_written(network, tmp_path):
    out = tmp_path / "ckpt"
    for path, message in _mistakes(network, tmp_path):
        code, printed, said = call(f"convert {MODEL} --from {path} --image-size {SIDE} --out {out}")
        assert (code, printed) == (2, ""), path
        assert said.startswith("jaxdl: error: "), path
        assert message in said, (path, said)
        assert not out.exists(), path
    assert not (tmp_path / "it ran").exists()


def test_mistakes_of_the_command_line(weights, tmp_path):
    out = tmp_path / "ckpt"
    for options, message in (
        (f"--from {weights} --out {out}", "which model are the weights"),
        (f"--from {weights} --model resnet181 --out {out}", "unknown model 'resnet181'"),
        (f"--from {weights} --model cnn --out {out}", "there are no published weights for the model 'cnn'"),
        (f"--from {weights} {MODEL} --out {weights}", "is a file"),
        (f"--from {weights} {MODEL} --layout timmy --out {out}", "unknown layout of 'resnet18' 'timmy'"),
        (f"--from {weights} {MODEL} --crop-mode middle --out {out}", "unknown crop_mode 'middle'"),
        (f"--from {weights} {MODEL} --mean 0.5 0.5 --std 1 1 --out {out}", "expected 3 numbers"),
        (f"--from {weights} {MODEL} --class-names {tmp_path / 'no.txt'} --out {out}", "cannot be read"),
        (f"--from {weights} {MODEL} --channels 5 --out {out}", "channel_mode 'sum' makes 1 channel, not 5"),
        (f"--from hf:resnet50 --out {out}", "expected hf:OWNER/NAME"),
    ):
        code, printed, said = call(f"convert {options}")
        assert (code, printed) == (2, ""), options
        assert message in said, said
        assert not out.exists()


def test_other_channels_as_timm(converted):
    timm_adapt = library("timm.models._manipulate").adapt_input_conv
    torch = library("torch")
    kernel = converted.checkpoint.variables["params"]["stem"]["conv"]["kernel"]
    theirs = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
    for channels, mode in ((1, "sum"), (4, "repeat"), (7, "repeat")):
        adapted = with_channels(converted.checkpoint, channels, mode)
        expected = timm_adapt(channels, theirs).numpy().transpose(2, 3, 1, 0)
        np.testing.assert_allclose(adapted.variables["params"]["stem"]["conv"]["kernel"], expected, rtol=1e-6)
        assert adapted.card.preprocessing.input_shape == (SIDE, SIDE, channels)
        assert len(adapted.card.preprocessing.mean) == channels
    same = with_channels(converted.checkpoint, 3, "repeat")
    assert same is converted.checkpoint
    x = np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 1)).astype(np.float32)
    grey = with_channels(converted.checkpoint, 1)
    apply = jax.jit(converted.checkpoint.model.apply)
    expected = apply(converted.checkpoint.variables, x.repeat(3, -1))
    np.testing.assert_allclose(apply(grey.variables, x), expected, atol=1e-4 * np.abs(expected).max())


def test_channels_of_what_is_no_image(converted):
    taken = RawPreprocessing((("", (SIDE, SIDE, 3), "float32"),))
    raw = dataclasses.replace(converted.checkpoint.card, preprocessing=taken)
    with pytest.raises(InputError, match="RawPreprocessing"):
        with_channels(dataclasses.replace(converted.checkpoint, card=raw), 1)


def test_unknown_fields_of_the_preprocessing_are_named(weights):
    with pytest.raises(InputError, match=r"sise.*image_size"):
        jaxdl.convert(weights, "resnet18", arguments=ARGUMENTS, preprocessing={"sise": SIDE})


def test_blue_first(converted, weights):
    swapped = jaxdl.convert(
        weights, "resnet18", arguments=ARGUMENTS, channel_order="bgr", preprocessing={"image_size": SIDE}
    ).checkpoint
    assert swapped.card.preprocessing.mean == converted.checkpoint.card.preprocessing.mean[::-1]
    x = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    apply = jax.jit(swapped.model.apply)
    there = apply(converted.checkpoint.variables, converted.checkpoint.card.preprocessing.network_input(x))
    here = apply(swapped.variables, swapped.card.preprocessing.network_input(x[..., ::-1]))
    np.testing.assert_allclose(here, there, atol=1e-4 * np.abs(there).max())
    back = reverse_channels(swapped)
    jax.tree.map(np.testing.assert_array_equal, back.variables, converted.checkpoint.variables)


COMMIT, OLDER = "a" * 40, "b" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client asks of it: what a repository holds, and its files."""

    repositories: ClassVar[dict] = {}
    asked: ClassVar[list] = []

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def log_message(self, *_):
        return

    def _answer(self):
        self.asked.append(f"{self.command} {self.path}")
        parts = self.path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        if len(parts) < (6 if api else 5):
            return self._send(404, b"", {})
        owner, name, revision = (parts[2], parts[3], parts[5]) if api else (parts[0], parts[1], parts[3])
        files = self.repositories.get(f"{owner}/{name}")
        commit = {"main": COMMIT, "v1": OLDER}.get(revision, revision)
        if files is None or commit not in (COMMIT, OLDER):
            missing = "RepoNotFound" if files is None else "RevisionNotFound"
            return self._send(404, b"{}", {"X-Error-Code": missing})
        if api:
            told = {
                "id": f"{owner}/{name}",
                "sha": commit,
                "cardData": {"license": "apache-2.0"},
                "siblings": [{"rfilename": file} for file in files],
            }
            return self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
        file = "/".join(parts[4:])
        if file not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self._send(200, files[file], {"ETag": f'"{hash(files[file])}"', "X-Repo-Commit": commit})

    def _send(self, code, body, headers):
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


LINES = """
import json, sys
from command_line import call
print(json.dumps([call(line) for line in json.loads(sys.argv[1])]))
"""


def _run(lines, tmp_path, endpoint):
    """Command lines in a process of their own, because the hub's client looks at its environment once."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", LINES, json.dumps(lines)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def hub(network, tmp_path):
    torch, timm = library("torch"), library("timm")
    torch.manual_seed(0)
    made = timm.create_model("resnet18", num_classes=3)
    _write(made, tmp_path / "made.safetensors", "safetensors")
    config = {
        "architecture": "resnet18",
        "num_classes": 3,
        "label_names": ["x", "y", "z"],
        "pretrained_cfg": {
            "input_size": [3, 40, 40],
            "interpolation": "bicubic",
            "crop_pct": 0.95,
            "crop_mode": "center",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "license": "mit",
        },
    }
    whole = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": (tmp_path / "made.safetensors").read_bytes(),
        "README.md": b"# a network",
    }
    bert = jaxdl.create("bert_tiny", 2, width=8, depth=1, vocabulary=9, pool="mean")
    spec = RawPreprocessing.like(jaxdl.MODELS["bert_tiny"].example())
    sentences = jaxdl.export(jaxdl.from_model(bert, spec), tmp_path / "exported").parent
    Hub.repositories = {
        "some/sentences": {
            name: (sentences / name).read_bytes()
            for name in ("config.json", "model.safetensors", "1_Pooling/config.json")
        },
        "timm/small": whole,
        "timm/odd": {**whole, "config.json": json.dumps({**config, "architecture": "resnest14d"}).encode()},
        "timm/torn": {**whole, "config.json": b"{"},
        "some/flax": {"flax_model.msgpack": b"x"},
    }
    Hub.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_weights_from_the_hub(hub, photos, tmp_path):
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    predict = f"predict --checkpoint hf:timm/small --data {photos} --out {tmp_path}"
    lines = [
        f"convert --from hf:timm/small --out {tmp_path / 'ckpt'}",
        f"convert --from hf:timm/small@v1 --out {tmp_path / 'older'}",
        f"{predict}/1.csv",
        f"finetune --init hf:timm/small --data {photos} --freeze-through body --epochs 1 --out {tmp_path / 'tuned'}",
        "inspect hf:timm/small",
        f"convert --from hf:some/sentences --out {tmp_path / 'sentences'}",
        f"convert --from hf:timm/none --out {tmp_path / 'x'}",
        f"convert --from hf:timm/small@v7 --out {tmp_path / 'x'}",
        f"convert --from hf:some/flax --out {tmp_path / 'x'}",
        f"convert --from hf:timm/odd --out {tmp_path / 'x'}",
        f"convert --from hf:timm/torn --out {tmp_path / 'x'}",
    ]
    done = _run(lines, tmp_path, endpoint)
    for code, _, said in done[:6]:
        assert code == 0, said
    fetched = [line for line in Hub.asked if line.startswith("GET") and "model.safetensors" in line]
    assert len(fetched) == 4, "timm/small at two commits, timm/odd and some/sentences, each once"
    assert jaxdl.restore(tmp_path / "sentences").model.pool == "mean"
    card = jaxdl.restore(tmp_path / "ckpt").card
    assert card.preprocessing == jaxdl.data.ImagePreprocessing((40, 40, 3), (0.5,) * 3, (0.25,) * 3, "bicubic", 0.95)
    assert card.class_names == ("x", "y", "z")
    assert (card.source["repository"], card.source["revision"]) == ("timm/small", COMMIT)
    assert card.source["licence"] == "apache-2.0"
    assert jaxdl.restore(tmp_path / "older").card.source["revision"] == OLDER
    assert str(jaxdl.restore(tmp_path / "tuned").card.parent).endswith(f"timm--small/{COMMIT}")
    for (code, printed, said), message in zip(
        done[6:],
        (
            "the hub has no 'timm/none' at revision 'main'",
            "the hub has no 'timm/small' at revision 'v7'",
            "'hf:some/flax' holds neither model.safetensors nor pytorch_model.bin, but: flax_model.msgpack",
            "describes a 'resnest14d'",
            "config.json' is damaged",
        ),
        strict=True,
    ):
        assert (code, printed) == (2, ""), said
        assert message in said, said
    assert not (tmp_path / "x").exists()

    hub.shutdown()  # and now without a connection
    hub.server_close()
    offline = _run([f"{predict}/2.csv", f"convert --from hf:timm/other --out {tmp_path / 'x'}"], tmp_path, endpoint)
    assert offline[0][0] == 0, offline[0][2]
    assert read_csv(tmp_path / "2.csv") == read_csv(tmp_path / "1.csv")
    code, printed, said = offline[1]
    assert (code, printed) == (2, ""), said
    assert "fetch https://huggingface.co/timm/other/resolve/main/model.safetensors and " in said
    assert not (tmp_path / "x").exists()


def test_a_source_must_be_named_right():
    with pytest.raises(InputError, match=r"'hf:one'.*hf:OWNER/NAME"):
        jaxdl.load_pretrained("hf:one")


def test_without_torch_a_file_of_its_own_says_what_is_missing(monkeypatch, network, tmp_path):
    path = _write(network, tmp_path / "w.pth", "zip")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"w\.pth.*pip install torch"):
        jaxdl.convert(path, "resnet18")
