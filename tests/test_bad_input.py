"""A user's mistake: one clear message, exit code 2, and nothing of the user's touched."""

import hashlib
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import jaxdl
from jaxdl import cli
from jaxdl.data import Preprocessing
from jaxdl.errors import InputError
from jaxdl.weights import checkpoint as checkpoints


class Bomb:
    """Leaves a file behind if it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("it ran",)


def save_network(path, name, input_shape, classes, seed=0, **arguments):
    shape = Preprocessing(input_shape, "uint8" if len(input_shape) == 3 else "float32")
    shape = Preprocessing(shape.input_shape, shape.kind, (0.0,) * input_shape[-1], (1.0,) * input_shape[-1])
    jaxdl.save(checkpoints.from_model(jaxdl.create(name, len(classes), **arguments), shape, classes, seed), path)


def write_strange_images(home):
    """Into folders of whole ones: a photograph that breaks off, and a picture whose header announces 400 million."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    photo = home / "cut photos" / "b" / "1.jpg"
    Image.fromarray(noise).save(photo)
    photo.write_bytes(photo.read_bytes()[:2000])
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b"")]
    content = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    (home / "huge" / "b" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    (home / "empty class" / "c").mkdir()


def write_tables(home):
    for name, text in {
        "table": "rooms,price,colour\n1,2.5,red\n2,3.5,blue\n",
        "gaps": "a,y\n1,0\n,1\n",
        "ragged": "a,y\n1,0\n1\n",
        "twice": "file,y\nphotos/a/0.png,0\nphotos/b/0.png,1\nphotos/a/0.png,1\n",
        "gone": "file,y\nphotos/a/0.png,0\ngone.png,1\n",
        "numbers": "a,y\n" + "".join(f"{i},{i * i / 7}\n" for i in range(12)),
        "away": "file,y\nphotos/a/0.png,0\n../away.png,1\n",
    }.items():
        (home / f"{name}.csv").write_text(text)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's folder with everything that may be wrong."""
    home = tmp_path_factory.mktemp("home")
    x, y = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), np.arange(20) % 2
    broken = np.where(np.arange(60).reshape(20, 3) == 31, np.nan, x)
    objects = np.array(["a", Bomb()] * 10, dtype=object)
    for name, held in {
        "good": {"x": x, "y": y, "groups": np.arange(20) // 10},
        "nan": {"x": broken, "y": y},
        "infinite": {"x": np.where(np.isnan(broken), np.inf, x), "y": y},
        "short": {"x": x, "y": y[:19]},
        "short_groups": {"x": x, "y": y, "groups": y[:3]},
        "objects": {"x": x, "y": objects},
        "object_x": {"x": objects, "y": y},
        "single": {"x": x, "y": y * 0},
        "few": {"x": x, "y": (np.arange(20) < 3).astype(int)},
        "unlabelled": {"x": x},
        "nameless": {"inputs": x, "outputs": y},
        "halves": {"x": x, "y": y / 2, "class_names": ["a", "b"]},
        "broken_numbers": {"x": x, "y": np.where(y > 0, np.nan, 1.5)},
    }.items():
        np.savez(home / f"{name}.npz", **held)
    (home / "text.npz").write_text("x,y\n1,2\n")
    (home / "cut.npz").write_bytes((home / "good.npz").read_bytes()[:300])
    (home / "notes.txt").write_text("mine")
    for path, classes, number in (
        ("photos", "ab", 6),
        ("few photos", "ab", 2),
        ("one class", "a", 3),
        ("unreadable", "ab", 3),
        ("cut photos", "ab", 3),
        ("huge", "ab", 3),
        ("empty class", "ab", 3),
        ("divided/train", "ab", 3),
        ("divided/val", "ac", 3),
        ("loose", "", 3),
        ("notes only", "", 0),
    ):
        for part in [home / path / c for c in classes] or [home / path]:
            part.mkdir(parents=True)
            for i in range(number):
                Image.new("RGB", (8, 8), (i, 9, 9)).save(part / f"{i}.png")
    (home / "unreadable" / "b" / "1.png").write_bytes(b"no image")
    write_strange_images(home)
    write_tables(home)
    (home / "notes only" / "notes.txt").write_text("mine")
    (home / "empty").mkdir()
    save_network(home / "mlp", "mlp", (3,), ("0", "1"), hidden=(4,))
    save_network(home / "cnn", "cnn", (8, 8, 3), ("a", "b"), features=(4,))
    shutil.copytree(home / "mlp", home / "mixed")
    card = json.loads((home / "cnn" / "card.json").read_text())
    (home / "mixed" / "card.json").write_text(json.dumps(card))
    card["format"] = 2
    shutil.copytree(home / "mlp", home / "newer")
    (home / "newer" / "card.json").write_text(json.dumps(card))
    shutil.copytree(home / "mlp", home / "interrupted")
    (home / "interrupted" / "card.json").unlink()
    save_network(home / "another mlp", "mlp", (3,), ("0", "1"), seed=1, hidden=(4,))
    shutil.copytree(home / "mlp", home / "exchanged")
    shutil.rmtree(home / "exchanged" / "variables")
    shutil.copytree(home / "another mlp" / "variables", home / "exchanged" / "variables")
    shutil.copytree(home / "mlp", home / "no card")
    (home / "no card" / "card.json").unlink()
    shutil.copytree(home / "mlp", home / "torn card")
    (home / "torn card" / "card.json").write_text("{")
    shutil.copytree(home / "mlp", home / "no arrays")
    shutil.rmtree(home / "no arrays" / "variables")
    shutil.copytree(home / "mlp", home / "torn arrays")
    for file in (home / "torn arrays" / "variables").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:40])
    return home


def seen(folder):
    """Everything below a folder, hidden things too, with the hash of each file."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder"
        for p in folder.rglob("*")
    }


@pytest.fixture
def refused(home, monkeypatch, capsys):
    """A function that gives the message with which a command line is refused."""
    monkeypatch.chdir(home)
    before = seen(home)

    def refuse(line, code=2):
        with pytest.raises(SystemExit) as exit:
            cli.main(shlex.split(line))
        said = capsys.readouterr()
        assert exit.value.code == code
        assert said.out == ""
        assert "Traceback" not in said.err
        assert seen(home) == before
        return said.err

    return refuse


# command line without --out; what the message must say
MISTAKES = [
    # a path that is not there
    ("pretrain --model mlp --data nowhere", "there is no 'nowhere'; expected 'digits', a folder of class folders"),
    ("pretrain --model mlp --data nowhere.npz", "there is no file 'nowhere.npz'"),
    ("finetune --init nowhere --data good.npz", "there is no checkpoint '.*nowhere'"),
    ("predict --checkpoint nowhere --data good.npz", "there is no checkpoint '.*nowhere'"),
    ("predict --checkpoint mlp --data nowhere", "there is no 'nowhere'"),
    # an unknown name or value
    ("pretrain --model mlp --data digit", "Did you mean 'digits'?"),
    ("pretrain --model mlp --data digits:x", "'digits:x' names no digits; expected for example digits:0-4"),
    ("pretrain --model mlp --data digits:7-12", "expected different numbers from 0 to 9"),
    (
        "pretrain --model resnet20-cifar --data good.npz",
        "unknown model 'resnet20-cifar'.* mean 'resnet20_cifar'?",
    ),
    ("cross-validate --model mpl --data good.npz", "unknown model 'mpl'; expected one of: mlp, .* mean 'mlp'?"),
    ("pretrain --model mlp --data good.npz --freeze-through layr1", "unknown stage of MLP 'layr1'.* mean 'layer1'?"),
    ("finetune --init mlp --data good.npz --freeze-through bdy", "unknown stage of MLP 'bdy'.* mean 'body'?"),
    ("finetune --init mlp --data good.npz --freeze-through head", "leaves nothing to train; the last .* is 'layer1'"),
    ("finetune --init mlp --data good.npz --stage-lr haed=10", "in stage_lr 'haed'.* mean 'head'?"),
    ("pretrain --model mlp --data good.npz --optimizer adamx", "unknown optimizer 'adamx'.* mean 'adam'?"),
    ("pretrain --model mlp --data good.npz --schedule cosin", "unknown schedule 'cosin'.* mean 'cosine'?"),
    ("pretrain --model mlp --data good.npz --precision bfloat", "unknown precision 'bfloat'.* mean 'bfloat16'?"),
    ("pretrain --model mlp --data good.npz --parallel pmapp", "unknown parallel 'pmapp'.* mean 'pmap'?"),
    ("finetune --init mlp --data good.npz --head fres", "unknown head 'fres'.* mean 'fresh'?"),
    ("cross-validate --model mlp --data good.npz --splitter groups", "unknown splitter 'groups'.* mean 'group'?"),
    (
        "cross-validate --model mlp --data good.npz --splitter stratified --fold-strategy vmp",
        "unknown fold strategy 'vmp'.* mean 'vmap'?",
    ),
    ("pretrain --model mlp --data good.npz --model-arguments hiden=[4]", "no argument 'hiden'.* mean 'hidden'?"),
    ("pretrain --model mlp --data good.npz --model-arguments hidden=4", "argument 'hidden' of model 'mlp' is 4"),
    ("pretrain --model mlp --data good.npz --model-arguments hidden", "'hidden' is no NAME=VALUE"),
    (
        "pretrain --model mlp --data good.npz --model-arguments activation=tan",
        "unknown activation 'tan'.* mean 'tanh'?",
    ),
    # numbers that cannot be
    ("pretrain --model mlp --data good.npz --epochs 0", "epochs is 0; expected a whole number of at least 1"),
    ("pretrain --model mlp --data good.npz --batch-size -1", "batch_size is -1; expected"),
    ("pretrain --model mlp --data good.npz --learning-rate nan", "learning_rate is nan; expected more than 0"),
    ("pretrain --model mlp --data good.npz --warmup-epochs 50", "warmup_epochs is 50.0; expected"),
    ("pretrain --model mlp --data good.npz --clip-norm 0", "clip_norm is 0.0; expected more than 0"),
    ("pretrain --model mlp --data good.npz --label-smoothing 1", "label_smoothing is 1.0; expected"),
    ("pretrain --model mlp --data good.npz --seed -1", "seed is -1; expected"),
    ("pretrain --model mlp --data good.npz --validation-fraction 1.5", "the validation fraction is 1.5; expected"),
    ("pretrain --model mlp --data good.npz --image-size 8", "holds numbers, not images"),
    (
        "cross-validate --model mlp --data good.npz --splitter stratified --folds 1",
        "folds is 1; 'stratified' needs at least 2",
    ),
    # how a run is carried out
    ("pretrain --model mlp --data good.npz --workers -1", "workers is -1; expected 0 or more"),
    ("cross-validate --model mlp --data good.npz --workers -1", "workers is -1; expected 0 or more"),
    ("pretrain --model mlp --data good.npz --stream sometimes", "unknown stream 'sometimes'; expected one of: auto"),
    ("pretrain --model mlp --data good.npz --stream alway", "unknown stream 'alway'.* mean 'always'?"),
    ("finetune --init mlp --data good.npz --save-every -1", "save_every is -1.0; expected seconds from 0"),
    ("finetune --init mlp --data good.npz --save-every nan", "save_every is nan; expected seconds from 0"),
    ("cross-validate --model mlp --data good.npz --keep-models sometimes", "unknown keep_models 'sometimes'; expected"),
    ("pretrain --model mlp --data good.npz --task regresion", "unknown task 'regresion'.* mean 'regression'?"),
    ("pretrain --model mlp --data table.csv:price --task number", "unknown task 'number'; expected one of: auto"),
    # more of training
    ("pretrain --model mlp --data good.npz --augment flop", "unknown augmentation 'flop'.* mean 'flip'?"),
    ("pretrain --model mlp --data good.npz --augment flip", "augment.* is for images"),
    ("pretrain --model cnn --data photos --augment none flip", "'none' and flip"),
    ("pretrain --model mlp --data good.npz --accumulate 0", "accumulate is 0; expected a whole number of at least 1"),
    ("pretrain --model mlp --data good.npz --accumulate 33", "accumulate is 33; expected at most 32 parts"),
    ("pretrain --model mlp --data good.npz --ema 1", "ema is 1.0; expected from 0 to below 1"),
    ("pretrain --model mlp --data good.npz --eval-every 0", "eval_every is 0; expected a whole number of at least 1"),
    ("pretrain --model mlp --data good.npz --early-stopping 0", "early_stopping is 0; expected a whole number of at"),
    ("pretrain --model mlp --data good.npz --inner-fraction 1 --early-stopping 1", "inner_fraction is 1.0; expected"),
    (
        "pretrain --model mlp --data good.npz --early-stopping 1 --inner-fraction 0.99",
        "early_stopping cannot hold out 0.99 of a training part of 20 examples",
    ),
    ("pretrain --model mlp --data good.npz --unfreeze-every 2", "unfreeze_every needs freeze_through: the stages that"),
    (
        "pretrain --model mlp --data good.npz --freeze-through body --unfreeze-every 0",
        "unfreeze_every is 0; expected a whole number of at least 1",
    ),
    (
        "pretrain --model mlp --data good.npz --class-weights equal",
        "unknown class_weights 'equal'; expected one of: ba",
    ),
    (
        "pretrain --model mlp --data good.npz --class-weights 0=1 rare=5",
        "unknown class of good.npz in class_weights 'rare'; expected one of: 0, 1",
    ),
    ("pretrain --model mlp --data good.npz --class-weights 0=-1", "class_weights of '0' is -1.0; expected at least 0"),
    ("pretrain --model mlp --data good.npz --class-weights 0=0 1=0", "class_weights are 0 for every example"),
    ("pretrain --model mlp --data good.npz --stage-lr head=0", "stage_lr of 'head' is 0.0; expected more than 0"),
    ("pretrain --model mlp --data good.npz --stage-lr head=nan", "stage_lr of 'head' is nan; expected more than 0"),
    ("pretrain --model mlp --data numbers.csv --class-weights balanced", "class_weights is for classes; numbers"),
    ("pretrain --model mlp --data numbers.csv --label-smoothing 0.1", "label_smoothing is for classes; numbers"),
    (
        "cross-validate --model mlp --data numbers.csv --splitter stratified",
        "has numbers, no classes to stratify by; use the splitter 'kfold'",
    ),
    ("pretrain --model mlp --data numbers.csv --augment mixup", "augment.* is for images"),
    # folders
    ("pretrain --model mlp --data empty", "has no class folders; expected empty/CLASS/IMAGE.jpg, but it is empty"),
    (
        "pretrain --model mlp --data loose",
        "has no class folders.* 3 images directly: sort them into a folder per class",
    ),
    ("pretrain --model mlp --data 'notes only'", "has no class folders.* it holds no images"),
    ("predict --checkpoint cnn --data 'notes only'", "has no class folders"),
    (
        "pretrain --model mlp --data notes.txt",
        "'notes.txt' is neither a folder of class folders nor a file .npz or .csv",
    ),
    ("pretrain --model mlp --data photos:val", "unknown split of 'photos' 'val'; expected one of: all"),
    ("pretrain --model cnn --data unreadable", "the image 'unreadable/b/1.png' cannot be read"),
    (
        "pretrain --model cnn --data 'cut photos'",
        "the image 'cut photos/b/1.jpg' cannot be read \\(image file is",
    ),
    ("pretrain --model cnn --data huge", "'huge/b/1.png' has 400,000,000 pixels, more than the limit of 89,478,485"),
    ("predict --checkpoint cnn --data huge", "'huge/b/1.png' has 400,000,000 pixels, more than the limit"),
    ("pretrain --model cnn --data 'empty class'", "the class folders c of 'empty class' hold no images"),
    (
        "pretrain --model cnn --data divided",
        "the validation data has classes that the training data lacks: c \\(and .*: b\\)",
    ),
    (
        "pretrain --model cnn --data divided:all",
        "the class folders of train/ and val/ in 'divided' differ: train/ alone has b; val/ alone has c",
    ),
    # tables
    ("pretrain --model mlp --data nowhere.csv", "there is no file 'nowhere.csv'"),
    ("pretrain --model mlp --data table.csv:pries", "'table.csv' has no column 'pries'; it has: .*mean 'price'?"),
    ("pretrain --model mlp --data table.csv", "'table.csv' has no column called target, .* as in table.csv:COLUMN"),
    (
        "pretrain --model mlp --data table.csv:rooms",
        "the column 'colour' of 'table.csv' holds 'red', which is no",
    ),
    ("pretrain --model mlp --data gaps.csv", "the column 'a' of 'gaps.csv' has no value, on line 3"),
    ("pretrain --model mlp --data ragged.csv", "line 3 of 'ragged.csv' has 1 fields; the first line names 2 columns"),
    (
        "pretrain --model cnn --data twice.csv",
        "'file' of 'twice.csv' names files more than once .* line 2, .* line 4",
    ),
    (
        "pretrain --model cnn --data gone.csv",
        "'gone.csv' names files that are not in '.': 'gone.png' on line 3",
    ),
    ("pretrain --model cnn --data away.csv", "'file' of 'away.csv' names files outside the table's folder"),
    ("predict --checkpoint mlp --data table.csv", "the column 'colour' of 'table.csv' holds 'red'"),
    # too few classes or examples
    ("pretrain --model mlp --data 'one class'", "one class holds a single class \\('a'\\)"),
    ("pretrain --model mlp --data single.npz", "single.npz holds a single class \\('0'\\)"),
    ("cross-validate --model mlp --data digits:3", "digits:3 holds a single class \\('3'\\)"),
    (
        "cross-validate --model mlp --data few.npz",
        "class '1' of few.npz has 3 examples, fewer than 5 folds; use --folds 3",
    ),
    ("cross-validate --model cnn --data 'few photos'", "class 'a' of few photos has 2 examples, fewer than 5 folds"),
    ("cross-validate --model mlp --data good.npz --splitter group", "good.npz has 2 groups, fewer than 5 folds"),
    ("cross-validate --model mlp --data digits --splitter group", "digits has no groups"),
    ("cross-validate --model mlp --data digits --splitter time-series", "digits has no times"),
    ("cross-validate --model mlp --data unlabelled.npz", "unlabelled.npz has no labels"),
    # arrays
    ("pretrain --model mlp --data short.npz", "x has 20 examples but y has 19; they must match"),
    ("pretrain --model mlp --data short_groups.npz", "x has 20 examples but groups has 3; they must match"),
    ("pretrain --model mlp --data nan.npz", "holds NaN or infinity .* in 1 of 20 examples, the first at index 10"),
    ("predict --checkpoint mlp --data nan.npz", "holds NaN or infinity"),
    ("pretrain --model mlp --data infinite.npz", "holds NaN or infinity"),
    (
        "pretrain --model mlp --data objects.npz",
        "the array 'y' holds Python objects, .* can execute code; it was not read",
    ),
    ("predict --checkpoint mlp --data object_x.npz", "the array 'x' holds Python objects"),
    ("pretrain --model mlp --data nameless.npz", "has no array 'x'; it holds: inputs, outputs"),
    ("pretrain --model mlp --data halves.npz", "y is float64.*; expected one whole number or string per example"),
    ("pretrain --model mlp --data broken_numbers.npz", "y holds NaN or infinity .* in 10 of 20 examples, .* index 1"),
    ("pretrain --model mlp --data text.npz", "'text.npz' cannot be read as an .npz archive"),
    ("pretrain --model mlp --data cut.npz", "'cut.npz' cannot be read as an .npz archive"),
    # checkpoints
    ("finetune --data good.npz", "give either --init CHECKPOINT or --model NAME"),
    ("finetune --init mlp --model mlp --data good.npz", "give either --init CHECKPOINT or --model NAME"),
    ("finetune --init mlp --data good.npz --model-arguments hidden=[4]", "--model-arguments go with --model"),
    ("finetune --init photos --data good.npz", "'.*photos' is not a jaxdl checkpoint: it has no card.json"),
    ("finetune --init good.npz --data good.npz", "'.*good.npz' is not a jaxdl checkpoint"),
    ("predict --checkpoint 'no card' --data good.npz", "'.*no card' is not a jaxdl checkpoint: it has no card.json"),
    ("predict --checkpoint interrupted --data good.npz", "has no card.json \\(writing it was interrupted"),
    ("predict --checkpoint newer --data good.npz", "in checkpoint format 2; this jaxdl reads up to 1: update jaxdl"),
    ("predict --checkpoint exchanged --data good.npz", "are not those that its card was written for: .* exchanged"),
    ("finetune --init exchanged --data good.npz", "are not those that its card was written for"),
    ("predict --checkpoint 'torn card' --data good.npz", "the card '.*torn card/card.json' is damaged"),
    ("predict --checkpoint 'no arrays' --data good.npz", "the arrays of the checkpoint '.*no arrays' are missing"),
    ("predict --checkpoint 'torn arrays' --data good.npz", "the arrays of the checkpoint '.*torn arrays'"),
    ("finetune --init mlp --data photos", "photos holds other examples; the network was made for float32 numbers"),
    ("finetune --init cnn --data good.npz", "good.npz holds float32\\[3\\]; the network was made for uint8 images"),
    ("predict --checkpoint cnn --data good.npz", "the network was made for uint8 images"),
    (
        "finetune --init cnn --data digits --head keep",
        "head='keep' needs the checkpoint's classes \\(a, b\\), but digits",
    ),
    ("pretrain --model cnn --data good.npz", "conv1 of a cnn needs \\[batch, height, width, channels\\]"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_explained(refused, line, message):
    said = refused(f"{line} --out new")
    assert said.startswith("jaxdl: error: ")
    assert said.count("jaxdl: error") == said.count("\n") == 1
    assert re.search(message.replace("?", "\\?"), said), said


def test_the_refused_pickles_would_have_run(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with np.load(home / "objects.npz", allow_pickle=True) as file:
        assert len(file["y"]) == 20
    assert (tmp_path / "it ran").is_dir()


def test_a_checkpoint_of_another_model_lists_every_mismatch(refused):
    for line in ("finetune --init mixed --data photos --out new", "inspect mixed"):
        said = refused(line)
        assert said.count("jaxdl: error") == 1
        assert re.search(r"the checkpoint '.*mixed' does not fit the model \(\d+ mismatches\):", said)
        for name in ("params/conv1/", "params/layer1/", "the checkpoint has it, the model has not"):
            assert name in said


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("''", "unknown command ''; expected one of: demo, pretrain"),
        ("", "there is no command; expected one of: demo, pretrain, .* See jaxdl --help"),
        ("pretrian --model mlp", "unknown command 'pretrian'.* mean 'pretrain'"),
        ("inspect resnet51", "'resnet51' is neither the folder of a checkpoint nor a model.* mean 'resnet50'"),
        ("inspect no/where", "'no/where' is neither the folder of a checkpoint nor a model"),
        ("inspect notes.txt", "'.*notes.txt' is not a jaxdl checkpoint"),
        ("inspect vit --num-outputs 0", "num_outputs is 0"),
        ("inspect resnet18 --input-shape 5", "a resnet needs \\[batch, height, width, channels\\]"),
        ("pretrain --model mlp --data good.npz --out new --epoch 3", "(?s)Unrecognized options: --epoch.*--epochs INT"),
        ("pretrain --model mlp --data good.npz --out new --epochs three", "Error parsing --epochs.*'three'"),
        (
            "pretrain --model mlp --data good.npz --out new --stage-lr head",
            "'head' is no NAME=FACTOR; expected",
        ),
        ("pretrain --model mlp --data good.npz --out new --stage-lr a=1 a=2", "'a' has two factors; expected one"),
        ("pretrain --model mlp --data good.npz", "(?s)Missing from jaxdl pretrain:.*--out CKPT"),
    ],
)
def test_a_command_that_makes_no_sense(refused, line, message):
    assert re.search(message, refused(line))


def test_a_number_beyond_reason_is_explained(refused, tmp_path):
    """The last checkpoint that is good stays, and the same command comes to the same end."""
    command = "pretrain --model mlp --data good.npz --epochs 2 --learning-rate 1e30 --out"
    for _ in range(2):
        said = refused(f"{command} {tmp_path / 'new'}").replace("going on with the run in", "")
        assert re.search(
            r"the (loss|gradient of stage '\w+'|parameters|outputs) (is|are) .*not finite.*; try a lower learning rate",
            said,
        )
        good = jaxdl.restore(tmp_path / "new" / "last-good")
        assert f"is the checkpoint '{good.path}'" in said
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good.variables))
    assert not (tmp_path / "new" / "card.json").exists()
    jaxdl.restore("mlp")
    said = refused(f"{command} {tmp_path / 'new'} --learning-rate 0.01")  # as advised, but where the other run is
    assert "plan.learning_rate: 1e+30 then, 0.01 now" in said
    assert "--restart" in said


# --out that holds something else

ARGUMENTS = {
    "pretrain": "--model mlp --data good.npz",
    "finetune": "--init mlp --data good.npz",
    "cross-validate": "--model mlp --data good.npz",
    "predict": "--checkpoint mlp --data good.npz",
    "demo": "",
}


@pytest.fixture
def no_training(monkeypatch):
    """--out is looked at first: nobody waits for a training that cannot be saved."""
    for name in (
        "commands.train.train",
        "commands.crossval.cross_validate",
        "commands.predict.predict",
        "demo.pretrain",
    ):
        monkeypatch.setattr(f"jaxdl.{name}", lambda *arguments, **named: pytest.fail("it went on"))


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("command", ARGUMENTS)
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("photos", "'.*photos' is a folder that is not empty; it was left as it is"),
        ("mlp", "'.*mlp' is a folder that is not empty"),
        ("notes.txt", "'.*notes.txt' is a file; it was left as it is"),
        ("notes.txt/new", "cannot be made: '.*notes.txt' is not a folder that may be written to"),
        ("notes.txt/new/deep", "cannot be made: '.*notes.txt' is not a folder"),
        (".", "is a folder that is not empty"),
    ],
)
def test_out_that_holds_something_else(refused, command, out, message):
    said = refused(f"{command} {ARGUMENTS[command]} --out {out}")
    assert said.startswith("jaxdl: error: ")
    assert re.search(message, said)


def test_a_table_is_no_folder(refused):
    assert "is a folder; expected the name of a file .csv" in refused(
        "predict --checkpoint mlp --data good.npz --out empty"
    )


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("command", ARGUMENTS)
def test_a_place_that_may_not_be_written_to(refused, monkeypatch, command):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "is not a folder that may be written to" in refused(f"{command} {ARGUMENTS[command]} --out new")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="may write everywhere")
def test_a_read_only_folder(refused, tmp_path):
    (tmp_path / "fixed").mkdir()
    (tmp_path / "fixed").chmod(0o500)
    assert "is not a folder that may be written to" in refused(
        f"pretrain --model mlp --data good.npz --out {tmp_path / 'fixed' / 'new'}"
    )


# Writing that fails on the way


@pytest.fixture(params=[OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk full", "interrupted"])
def stop(request):
    """Something that stops a write, the exit code it leads to, and what is said."""

    def stop(*arguments, **named):
        raise request.param

    return stop, *((2, "No space left on device") if isinstance(request.param, OSError) else (130, "interrupted"))


def test_half_a_checkpoint_is_removed(refused, monkeypatch, stop):
    monkeypatch.setattr(Path, "write_text", write_half_a_card(stop[0]))
    assert stop[2] in refused("finetune --init mlp --data good.npz --epochs 1 --out new", code=stop[1])


def write_half_a_card(stop):
    write = Path.write_text

    def write_card(path, text, *arguments, **named):
        if path.name != "card.json":
            return write(path, text, *arguments, **named)
        assert (path.parent / "variables").is_dir()  # the arrays have been written
        assert path.parent.name.startswith(".result.made-")
        write(path, text[:100])
        return stop()

    return write_card


def test_what_was_saved_before_half_a_checkpoint_is_kept(refused, monkeypatch, stop, tmp_path):
    command = f"finetune --init mlp --data good.npz --epochs 2 --save-every 0 --out {tmp_path}"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write_half_a_card(stop[0]))
        assert stop[2] in refused(f"{command}/new", code=stop[1])
    assert sorted(os.listdir(tmp_path / "new")) == ["run.json", "state"]
    assert "is not a jaxdl checkpoint" in refused(f"predict --checkpoint {tmp_path}/new --data good.npz --out new")
    for out in ("new", "whole"):
        cli.main(shlex.split(f"{command}/{out}"))
    kept = [checkpoints.fingerprint(jaxdl.restore(tmp_path / out).variables) for out in ("new", "whole")]
    assert kept[0] == kept[1]


def test_half_a_table_is_removed(refused, monkeypatch, stop):
    monkeypatch.setattr(Path, "replace", stop[0])
    assert stop[2] in refused("predict --checkpoint mlp --data good.npz --out new.csv", code=stop[1])


def test_half_a_result_is_no_result(refused, monkeypatch, stop, tmp_path):
    """The folds that were trained are kept: the same command goes on with them."""

    def write_half(result, folder):
        (folder / "result.json").write_text("{")
        stop[0]()

    command = "cross-validate --model mlp --data good.npz --epochs 1 --folds 2 --fold-strategy loop"
    command += f" --allow groups --out {tmp_path}"
    with monkeypatch.context() as patch:
        patch.setattr("jaxdl.validation.result.Result.write_to", write_half)
        assert stop[2] in refused(f"{command}/new", code=stop[1])
    assert sorted(os.listdir(tmp_path / "new")) == ["run.json", "state"]
    with monkeypatch.context() as patch:
        patch.setattr("jaxdl.validation.folds.fit", lambda *arguments, **named: pytest.fail("it trained again"))
        cli.main(shlex.split(f"{command}/new"))
    cli.main(shlex.split(f"{command}/whole"))
    logits = [jaxdl.load_result(tmp_path / out).out_of_fold.logits for out in ("new", "whole")]
    np.testing.assert_array_equal(*logits)
    assert sorted(os.listdir(tmp_path / "new")) == sorted(os.listdir(tmp_path / "whole"))


# The program itself


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pretrain --model mlp --data nan.npz --out new", b"holds NaN or infinity"),
        ("finetune --init 'torn arrays' --data good.npz --out new", b"the arrays of the checkpoint"),
    ],
)
def test_the_program_says_one_thing_and_ends_with_2(home, line, message):
    before = seen(home)
    program = [sys.executable, "-c", "from jaxdl.cli import main; main()", *shlex.split(line)]
    done = subprocess.run(program, cwd=home, capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"jaxdl: error: ")
    assert done.stderr.count(b"\n") == 1
    assert message in done.stderr
    assert seen(home) == before


def test_debug_shows_the_traceback(home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises(InputError, match="holds NaN") as raised:
        cli.main(shlex.split("pretrain --model mlp --data nan.npz --out new --debug"))
    assert [entry.name for entry in raised.traceback][-1] == "arrays"
