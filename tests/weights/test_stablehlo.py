"""A checkpoint as a program that runs without jaxdl, and what is written of how to feed it."""

import json
import subprocess
import sys

import flax.linen as nn
import jax
import jax.export
import numpy as np
import pytest
from checkpoints import made
from command_line import jaxdl_command, refused
from PIL import Image

import jaxdl
from jaxdl.data import ImagePreprocessing
from jaxdl.data.preprocessing import RawPreprocessing, TablePreprocessing
from jaxdl.errors import InputError
from jaxdl.models import attention
from jaxdl.models.staged import Staged
from jaxdl.weights import stablehlo
from jaxdl.weights.card import Card
from jaxdl.weights.stablehlo import PLATFORMS, to_program

PLAN = jaxdl.Plan(epochs=2, batch_size=8)
WITHOUT_JAXDL = """
import json, sys
import jax, numpy as np

told = json.load(open("out/model.json"))
program = jax.export.deserialize(bytearray(open("out/" + told["program"]["file"], "rb").read()))
x = np.load("x.npy")
for count in (2, len(x)):
    outputs = np.asarray(program.call(x[:count]))
assert not {"jaxdl", "flax"} & {name.split(".")[0] for name in sys.modules}
np.save("outputs.npy", outputs)
"""


def _read(folder):
    told = json.loads((folder / "model.json").read_text())
    return told, jax.export.deserialize(bytearray((folder / told["program"]["file"]).read_bytes()))


def _as_told(image, told):
    """An image for the network, prepared by nothing but what the file says, the formulas in its words included."""
    own, (_, scale, cut) = told["preprocessing"], told["prepare"]
    height, width = own["input_shape"][:2]
    method = own["interpolation"].upper()
    assert f", {method})" in scale
    tall, wide = eval(scale.split("(tall, wide) = ")[1], {"h": image.height, "w": image.width})
    row, column = eval(cut.split("(row, column) = ")[1].split(", where")[0], {"tall": tall, "wide": wide})
    scaled = np.asarray(image.resize((wide, tall), Image.Resampling[method]))
    return scaled[row : row + height, column : column + width]


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.slow
def test_it_runs_without_jaxdl(tmp_path, mode):
    """In a process that loads JAX alone, on photographs prepared as the file says."""
    preprocessing = ImagePreprocessing((12, 8, 3), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "bicubic", 0.8, mode)
    checkpoint = made("vit", Card(preprocessing, jaxdl.Classification(("a", "b", "c"))))
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((31, 17), (20, 40), (12, 8))]
    for i, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / f"{i}.png")
    source = jaxdl.data.folder(tmp_path, labelled=False)
    jaxdl.export(checkpoint, tmp_path / "out", file_format="stablehlo")
    told, _ = _read(tmp_path / "out")
    np.save(tmp_path / "x.npy", np.stack([_as_told(Image.open(tmp_path / f"{i}.png"), told) for i in range(3)]))
    run = [sys.executable, "-c", WITHOUT_JAXDL]
    subprocess.run(run, cwd=tmp_path, check=True, env={"JAX_PLATFORMS": "cpu", "PATH": ""})
    expected = jaxdl.predict(checkpoint, source).logits
    assert expected.std(0).min() > 1e-3 * np.abs(expected).max(), "photographs are told apart"
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), expected, rtol=1e-5, atol=1e-5)
    assert told["input"] == [{"place": "", "shape": ["batch", 12, 8, 3], "dtype": "uint8"}]
    assert told["output"] == [{"place": "", "shape": ["batch", 3], "dtype": "float32"}]
    assert told["task"]["names"] == ["a", "b", "c"]
    assert told["preprocessing"]["mean"] == [0.4, 0.5, 0.6]
    assert told["program"]["platforms"] == list(PLATFORMS)


def test_numbers_in_their_own_units(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(50, 9, (40, 3)).astype(np.float32)
    table = tmp_path / "houses.csv"
    rows = "".join(f"{a},{b},{c},{1000 + 7 * a}\n" for a, b, c in x)
    table.write_text("area,rooms,age,target\n" + rows)
    source = jaxdl.data.csv(table, task="regression")
    tuned = jaxdl.finetune(jaxdl.create("mlp", 1, hidden=(8,)), source, PLAN)
    jaxdl.export(tuned, tmp_path / "out", file_format="stablehlo")
    told, program = _read(tmp_path / "out")
    assert told["columns"] == ["area", "rooms", "age"]
    assert told["input"] == [{"place": "", "shape": ["batch", 3], "dtype": "float32"}]
    expected = jaxdl.predict(tuned, source).outputs
    assert expected.mean() > 500
    np.testing.assert_allclose(program.call(x), expected, rtol=1e-5)


class Product(nn.Module):
    def __call__(self, x, mode):
        return x["numbers"] * x["flags"]["used"]


class OfFew(nn.Module):
    """Asks how many examples there are."""

    def __call__(self, x, mode):
        return x if x.shape[0] < 100 else -x


class Linear(nn.Module):
    size: int

    @nn.compact
    def __call__(self, x, mode):
        return nn.Dense(self.size, name="dense")(x)


class Own(Staged):
    """A user's own network: some layer without weights, and a head."""

    first: type = Product

    def stages(self):
        return ("first", self.first), ("head", lambda name: Linear(self.num_outputs, name=name))


def test_labels_of_dicts_of_arrays(tmp_path):
    """Any task and network: several labels, asked of arrays that are taken as they are."""
    arrays = (("flags/used", (4,), "int32"), ("numbers", (4,), "float32"))
    fresh = jaxdl.from_model(Own(2), RawPreprocessing(arrays))
    checkpoint = jaxdl.Checkpoint(fresh.model, fresh.variables, Card(fresh.card.preprocessing, jaxdl.MultiLabel("ab")))
    jaxdl.export(checkpoint, tmp_path / "out", file_format="stablehlo")
    told, program = _read(tmp_path / "out")
    rng = np.random.default_rng(2)
    x = {"flags": {"used": np.int32(rng.random((7, 4)) < 0.5)}, "numbers": np.float32(rng.normal(size=(7, 4)))}
    kernel, bias = (np.asarray(checkpoint.variables["params"]["head"]["dense"][k]) for k in ("kernel", "bias"))
    np.testing.assert_allclose(program.call(x), x["numbers"] * x["flags"]["used"] @ kernel + bias, atol=1e-6)
    assert [(one["place"], one["dtype"]) for one in told["input"]] == [("flags/used", "int32"), ("numbers", "float32")]
    assert (told["model"]["name"], told["task"]["name"]) == ("Own", "multilabel")


@pytest.mark.parametrize("backend", ["cpu", pytest.param("gpu", marks=pytest.mark.slow)])
def test_each_platform_has_what_is_written_for_it(monkeypatch, backend):
    """A 1 × 1 convolution is a product of matrices on the CPU alone, also if it is exported elsewhere."""
    model = jaxdl.create("resnet18", 3, depths=(1,), width=4, block="bottleneck", stem="small")
    checkpoint = jaxdl.from_model(model, ImagePreprocessing((8, 8, 1), (0.1,), (0.3,)))
    with monkeypatch.context() as patched:
        patched.setattr(jax, "default_backend", lambda: backend)
        program = to_program(checkpoint)
        alone = {name: to_program(checkpoint, (name,)).mlir_module() for name in PLATFORMS}
    convolutions = {name: text.count("stablehlo.convolution(") for name, text in alone.items()}
    assert convolutions == {"cpu": 2, "cuda": 5, "tpu": 5}
    here = jax.jit(program.call).lower(jax.ShapeDtypeStruct((4, 8, 8, 1), np.uint8)).compile().as_text()
    assert here.count(" convolution(") == 2


def test_attention_is_exported_plainly(monkeypatch):
    """Where a GPU is at hand, cuDNN's program would be chosen; no file may hold it."""
    checkpoint = made("vit", Card(ImagePreprocessing((8, 8, 1), (0.1,), (0.3,))))
    monkeypatch.setattr(attention, "cudnn_refuses", lambda *_: "")
    monkeypatch.setattr(attention, "cudnn_attention", None)
    to_program(checkpoint)


def test_what_cannot_be_exported(tmp_path, monkeypatch):
    def refuses(checkpoint, *words, **options):
        with pytest.raises(InputError) as error:
            jaxdl.export(checkpoint, tmp_path / "out", **{"file_format": "stablehlo", **options})
        assert all(word in str(error.value) for word in words), error.value
        assert not (tmp_path / "out").exists()

    good = made("mlp")
    refuses(made("mlp", Card(TablePreprocessing((4,)))), "never trained", "mean and std")
    unscaled = Card(good.card.preprocessing, jaxdl.Regression())
    refuses(made("mlp", unscaled, outputs=1), "never trained", "scaling")
    refuses({}, "checkpoint", "Checkpoint")
    refuses(good, "'stablehol'", "'stablehlo'?", file_format="stablehol")
    refuses(good, "layout", "'timm'", layout="timm")
    open_question = jaxdl.from_model(Own(2, first=OfFew), RawPreprocessing((("", (4,), "float32"),)))
    refuses(open_question, "Own", "classification", "batch")
    monkeypatch.setattr(stablehlo, "LARGEST", 100)
    refuses(good, "0.00 GB", "safetensors")


def test_on_the_command_line(tmp_path):
    checkpoint, out = jaxdl.save(made("mlp"), tmp_path / "checkpoint"), tmp_path / "out"
    said = jaxdl_command(f"export {checkpoint} --format stablehlo --out {out}").splitlines()
    assert len(said) == 4
    assert str(out / "model.stablehlo") in said[0]
    assert "uint8[batch, 8, 8, 1]" in said[1]
    assert "float32[batch, 3]: a logit" in said[2]
    told, program = _read(out)
    assert told["program"]["call"] in said[3]
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.stablehlo"]
    assert program.call(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2, 3)

    before = (out / "model.stablehlo").read_bytes()
    assert "not empty" in refused(f"export {checkpoint} --format stablehlo --out {out}")
    assert (out / "model.stablehlo").read_bytes() == before
    ensemble = tmp_path / "ensemble"
    ensemble.mkdir()
    (ensemble / "ensemble.json").write_text("{}")
    assert "ensemble" in refused(f"export {ensemble} --format stablehlo --out {tmp_path / 'new'}")
    assert "'stablehlo'" in refused(f"export {checkpoint} --format stableHLO --out {tmp_path / 'new'}")
    assert not (tmp_path / "new").exists()
