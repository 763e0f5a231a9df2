"""What the README shows runs as it stands there."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxdl
from jaxdl import cli
from jaxdl.data import ImagePreprocessing
from jaxdl.data.preprocessing import TextPreprocessing
from jaxdl.data.preprocessing.tokenizer import read_tokenizer

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(section, language):
    text = README.split(f"## {section}")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_the_quickstart_in_python(tmp_path, monkeypatch, capsys):
    """Its first block stands alone; the second one says that it goes on from there."""
    monkeypatch.chdir(tmp_path)
    quickstart, metrics = blocks("Quickstart in Python", "python")
    names = {}
    exec(quickstart, names)
    assert "±" in capsys.readouterr().out
    assert len(names["result"].folds) == 3
    assert names["taps"]["conv2"].shape == (8, 2, 2, 64)
    assert names["features"].shape == (8, 128)
    np.testing.assert_allclose(
        names["logits"],
        names["jaxdl"].predict(names["tuned"], names["data"].digits(range(5, 10))).logits[:8],
        atol=1e-4,
    )
    assert "goes on from" in README.split(metrics)[0].splitlines()[-3]
    exec(metrics, names)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()][:1] == ["kappa"]


def test_a_source_and_a_task_of_your_own_stand_alone(capsys):
    (own,) = blocks("A source and a task of your own", "python")
    names = {}
    exec(own, names)
    assert capsys.readouterr().out.startswith("deviance")
    assert names["result"].mean < names["result"].baseline["deviance"]


@pytest.mark.slow
def test_a_network_of_your_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module, stages = blocks("A network of your own", "python")
    names = {}
    exec(module, names)
    assert set(names["result"].curves[0]["stage_grad_norms"]) == {"early", "body", "head"}
    assert names["again"].model.num_outputs == 3
    try:
        exec(stages, names)
        assert names["stacked"].model["name"] == "stack"
    finally:
        jaxdl.MODELS.pop("stack", None)


def test_a_program_is_called_without_jaxdl(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = jaxdl.create("cnn", 3, features=(4,), hidden=(4,))
    photographs = ImagePreprocessing((224, 224, 3), (0.5,) * 3, (0.25,) * 3)
    jaxdl.export(jaxdl.from_model(model, photographs), "program", file_format="stablehlo")
    _, block = blocks("Published weights", "python")
    names = {}
    exec(block, names)
    assert names["logits"].shape == (2, 3)


@pytest.mark.slow
def test_a_folder_of_hugging_face_gives_embeddings(tmp_path, monkeypatch):
    """One of MiniLM's width, and of one block."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "joy", "long", "too"]))
    model = jaxdl.create("minilm_l6", 2, depth=1)
    jaxdl.export(jaxdl.from_model(model, TextPreprocessing(read_tokenizer(tmp_path))), "all-MiniLM-L6-v2")
    block, _ = blocks("Published weights", "python")
    names = {}
    exec(block, names)
    assert names["vectors"].shape == (2, 384)
    assert np.abs(names["vectors"][0] - names["vectors"][1]).max() > 0.01
    assert len(names["reviews"]) == 2


@pytest.mark.slow
def test_shell_quickstart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (text,) = blocks("Quickstart in the shell", "")
    commands = text.strip().splitlines()
    assert len(commands) == 5
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "jaxdl"
        cli.main(arguments)
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert written == {
        "result.json",
        "out_of_fold.npz",
        "metrics.jsonl",
        "report.html",
        "run.json",
        "folds",
        "split.npz",
    }
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 897
    assert "accuracy" in capsys.readouterr().out


def test_links_and_pictures_are_there():
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)]+)\)", README.replace("\n", " ")):
        assert target.startswith("https://") or (root / target).exists(), target


@pytest.mark.slow
def test_a_class_for_every_pixel(tmp_path, monkeypatch, capsys):
    """On frames of a film of noise and boxes, with small networks in place of the large ones."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for folder in ("streets/images", "streets/masks", "new"):
        Path(folder).mkdir(parents=True)
    Path("streets/classes.txt").write_text("road\ncar\n")
    for i in range(120):
        mask = np.zeros((16, 16), np.uint8)
        top, left = random.integers(0, 10, 2)
        mask[top : top + 6, left : left + 6] = 1
        image = (60 + 140 * mask + random.normal(0, 20, mask.shape)).clip(0, 255).astype(np.uint8)
        mask[0] = 11
        Image.fromarray(image).save(f"streets/images/drive_{i:04}.png")
        Image.fromarray(mask).save(f"streets/masks/drive_{i:04}.png")
    Image.fromarray(image).save("new/one.png")
    body = jaxdl.create("resnet20_cifar", 3, depths=(1, 1), width=4)
    photographs = ImagePreprocessing((16, 16, 1), (0.5,), (0.25,))
    jaxdl.save(jaxdl.from_model(body, photographs, ("a", "b", "c")), "mobilenet")
    (text,) = blocks("A class for every pixel", "")
    for command in text.replace("width=16", "width=4 depth=2").strip().splitlines():
        words = shlex.split(command.split("#")[0])[1:]
        words += ["--void", "11", "--epochs", "1"] if words[0] != "predict" else []
        words += ["--allow", "frames"] if words[0] == "cross-validate" else []
        assert not cli.main(words)
    assert np.asarray(Image.open("new-masks/one.png")).shape == (16, 16)
    (block,) = blocks("A class for every pixel", "python")
    exec(block.replace("epochs=40", "epochs=1").replace("width=16", "width=4"), {"jaxdl": jaxdl})
    assert "mean_iou" in capsys.readouterr().out
