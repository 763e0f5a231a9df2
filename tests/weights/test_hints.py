"""What is named in place of a checkpoint gets advice, which works when it is followed."""

import re
import shlex
import shutil

import numpy as np
import pytest
from command_line import jaxdl_command, refused
from parity import library

import jaxdl
from jaxdl.models.variables import nest, walk_shapes
from jaxdl.weights.keys import to_tensors
from jaxdl.weights.resnet_cifar import akamaster

FOLDS = "cross-validate --model mlp --model-arguments hidden=[4] --data digits:0-1 --folds 2 --epochs 1"
PREDICT = "predict --data digits:0-1 --checkpoint"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        jaxdl_command(f"{FOLDS} --keep-models always --no-report --out kept")
    shutil.copytree(home / "kept", home / "forgotten")
    shutil.rmtree(home / "forgotten" / "folds")
    return home


@pytest.fixture(autouse=True)
def at_home(home, monkeypatch):
    monkeypatch.chdir(home)


def quoted(said, number=-1):
    """A path that a message names."""
    return re.findall(r"'([^']+)'", said)[number]


def test_a_model_in_place_of_a_checkpoint():
    option = re.search(r"--model \w+", refused(f"{PREDICT} mlp --out none.csv"))[0]
    jaxdl_command(f"pretrain --data digits:0-1 --epochs 1 --no-report --out new {option}")
    assert "hf:" in refused(f"{PREDICT} resnet18 --out none.csv")


@pytest.mark.slow
def test_a_file_of_weights_in_place_of_a_checkpoint(home):
    """Followed to the end: the message leads to convert, which says the model."""
    torch = library("torch")
    model = jaxdl.create("resnet20_cifar", 2)
    fresh = jaxdl.from_model(model, jaxdl.data.ImagePreprocessing((32, 32, 3)), tuple("ab"))
    tensors = to_tensors(nest(dict(walk_shapes(fresh.variables))), akamaster(model))
    torch.save({name: torch.from_numpy(np.array(value)) for name, value in tensors}, home / "my weights.pth")
    said = refused(f"{PREDICT} 'my weights.pth' --out none.csv")
    command = re.search(r"jaxdl (convert --from .* --out CKPT)", said)[1]
    option = re.search(r"--model \w+", refused(command))[0]
    jaxdl_command(f"{command} {option}")
    assert jaxdl.restore("CKPT").model.num_outputs == 2


def test_a_cross_validation_in_place_of_a_checkpoint():
    said = refused(f"{PREDICT} kept --out none.csv")
    assert "cross-validate" in said
    inside = next(path for path in re.findall(r"'([^']+)'", said) if path.endswith("folds/0"))
    jaxdl_command(f"{PREDICT} {shlex.quote(inside)} --out of_fold.csv")
    jaxdl_command(re.search(r"jaxdl (ensemble .*kept)", said)[1] + " --out together")


@pytest.mark.slow
def test_a_cross_validation_that_kept_no_networks():
    said = refused(f"{PREDICT} forgotten --out none.csv")
    options = re.search(r"--keep-models always --restart", said)[0]
    jaxdl_command(f"{FOLDS} --no-report --out forgotten {options}")
    jaxdl_command(f"{PREDICT} {shlex.quote(quoted(said))} --out again.csv")


def test_other_things_in_place_of_a_checkpoint(home):
    (home / "notes.txt").write_text("words")
    (home / "empty").mkdir()
    for name in ("notes.txt", "empty", "nothing"):
        said = refused(f"{PREDICT} {name} --out none.csv")
        assert name in said
        assert "--model" not in said
