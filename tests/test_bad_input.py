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
from command_line import says_what_was_read
from PIL import Image

import jaxdl
from jaxdl import cli
from jaxdl.data import ImagePreprocessing, TablePreprocessing
from jaxdl.errors import InputError
from jaxdl.weights import checkpoint as checkpoints


class Bomb:
    """Leaves a file behind if it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("it ran",)


def save_network(path, name, input_shape, classes, seed=0, **arguments):
    kind = ImagePreprocessing if len(input_shape) == 3 else TablePreprocessing
    shape = kind(input_shape, mean=(0.0,) * input_shape[-1], std=(1.0,) * input_shape[-1])
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
        "gaps": "a,y\n1,0\n2,\n",
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

    def refuse(line, code=2, scores=False):
        with pytest.raises(SystemExit) as exit:
            cli.main(shlex.split(line))
        said = capsys.readouterr()
        assert exit.value.code == code
        assert scores or says_what_was_read(said.out)
        assert "Traceback" not in said.err
        assert seen(home) == before
        return said.err

    return refuse


# command line without --out; what the message must name
MISTAKES = [
    # a path that is not there
    ("pretrain --model mlp --data nowhere", "nowhere", "digits"),
    ("pretrain --model mlp --data nowhere.npz", "nowhere.npz"),
    ("finetune --init nowhere --data good.npz", "nowhere"),
    ("predict --checkpoint nowhere --data good.npz", "nowhere"),
    ("predict --checkpoint mlp --data nowhere", "nowhere"),
    # an unknown name or value
    ("pretrain --model mlp --data digit", "digits"),
    ("pretrain --model mlp --data digits:x", "digits:x"),
    ("pretrain --model mlp --data digits:7-12", "0 to 9"),
    ("pretrain --model resnet20-cifar --data good.npz", "resnet20-cifar", "resnet20_cifar"),
    ("cross-validate --model mpl --data good.npz", "mpl", "mlp"),
    ("pretrain --model mlp --data good.npz --freeze-through layr1", "layr1", "layer1"),
    ("finetune --init mlp --data good.npz --freeze-through bdy", "bdy", "body"),
    ("finetune --init mlp --data good.npz --freeze-through head", "layer1"),
    ("finetune --init mlp --data good.npz --stage-lr haed=10", "haed", "head"),
    ("pretrain --model mlp --data good.npz --optimizer adamx", "adamx", "adam"),
    ("pretrain --model mlp --data good.npz --schedule cosin", "cosin", "cosine"),
    ("pretrain --model mlp --data good.npz --precision bfloat", "bfloat", "bfloat16"),
    ("pretrain --model mlp --data good.npz --parallel pmapp", "pmapp", "pmap"),
    ("finetune --init mlp --data good.npz --head fres", "fres", "fresh"),
    ("cross-validate --model mlp --data good.npz --splitter groups", "groups", "group"),
    ("cross-validate --model mlp --data good.npz --splitter stratified --fold-strategy vmp", "vmp", "vmap"),
    ("pretrain --model mlp --data good.npz --model-arguments hiden=[4]", "hiden", "hidden"),
    ("pretrain --model mlp --data good.npz --model-arguments hidden=4", "hidden", "mlp"),
    ("pretrain --model mlp --data good.npz --model-arguments hidden", "hidden"),
    ("pretrain --model mlp --data good.npz --model-arguments activation=tan", "tan", "tanh"),
    # numbers that cannot be
    ("pretrain --model mlp --data good.npz --epochs 0", "epochs is 0"),
    ("pretrain --model mlp --data good.npz --batch-size -1", "batch_size is -1"),
    ("pretrain --model mlp --data good.npz --learning-rate nan", "learning_rate is nan"),
    ("pretrain --model mlp --data good.npz --warmup-epochs 50", "warmup_epochs is 50.0"),
    ("pretrain --model mlp --data good.npz --clip-norm 0", "clip_norm is 0.0"),
    ("pretrain --model mlp --data good.npz --label-smoothing 1", "label_smoothing is 1.0"),
    ("pretrain --model mlp --data good.npz --seed -1", "seed is -1"),
    ("pretrain --model mlp --data good.npz --validation-fraction 1.5", "the validation fraction is 1.5"),
    ("pretrain --model mlp --data good.npz --image-size 8", "image size"),
    ("cross-validate --model mlp --data good.npz --splitter stratified --folds 1", "folds is 1", "stratified"),
    # how a run is carried out
    ("pretrain --model mlp --data good.npz --workers -1", "workers is -1"),
    ("cross-validate --model mlp --data good.npz --workers -1", "workers is -1"),
    ("pretrain --model mlp --data good.npz --stream sometimes", "stream", "sometimes"),
    ("pretrain --model mlp --data good.npz --stream alway", "alway", "always"),
    ("finetune --init mlp --data good.npz --save-every -1", "save_every is -1.0"),
    ("finetune --init mlp --data good.npz --save-every nan", "save_every is nan"),
    ("cross-validate --model mlp --data good.npz --keep-models sometimes", "keep_models", "sometimes"),
    ("pretrain --model mlp --data good.npz --task regresion", "regresion", "regression"),
    ("pretrain --model mlp --data table.csv:price --task number", "task", "number"),
    # what is asked, and how it is scored
    ("cross-validate --model mlp --data good.npz --metric acuracy", "'acuracy'", "'accuracy'"),
    ("finetune --init mlp --data good.npz --metric macro-f", "'macro_f'", "'macro_f1'"),
    ("search --model mlp --data good.npz --space epochs=1,2 --metric r_2", "'r_2'", "'r2'"),
    ("search --model mlp --data good.npz --space epochs=1,2 --criterion los", "'los'", "'loss'"),
    ("learning-curve --model mlp --data numbers.csv --metric mae_", "'mae_'", "'mae'"),
    ("variance --model mlp --data good.npz --metric auk", "'auk'", "'auc'"),
    ("pretrain --model cnn --data photos --task regression", "2 classes"),
    ("split --data good.npz --task multi", "task", "'multi'"),
    # more of training
    ("pretrain --model mlp --data good.npz --augment flop", "flop", "flip"),
    ("pretrain --model mlp --data good.npz --augment flip", "--augment"),
    ("pretrain --model cnn --data photos --augment none flip", "none", "flip"),
    ("pretrain --model mlp --data good.npz --accumulate 0", "accumulate is 0"),
    ("pretrain --model mlp --data good.npz --accumulate 33", "accumulate is 33"),
    ("pretrain --model mlp --data good.npz --ema 1", "ema is 1.0"),
    ("pretrain --model mlp --data good.npz --eval-every 0", "eval_every is 0"),
    ("pretrain --model mlp --data good.npz --early-stopping 0", "early_stopping is 0"),
    ("pretrain --model mlp --data good.npz --inner-fraction 1 --early-stopping 1", "inner_fraction is 1.0"),
    ("pretrain --model mlp --data good.npz --early-stopping 1 --inner-fraction 0.99", "early_stopping", "0.99", "20"),
    ("pretrain --model mlp --data good.npz --unfreeze-every 2", "unfreeze_every", "freeze_through"),
    ("pretrain --model mlp --data good.npz --freeze-through body --unfreeze-every 0", "unfreeze_every is 0"),
    ("pretrain --model mlp --data good.npz --class-weights equal", "class_weights", "equal"),
    ("pretrain --model mlp --data good.npz --class-weights 0=1 rare=5", "class_weights", "rare"),
    ("pretrain --model mlp --data good.npz --class-weights 0=-1", "class_weights of '0' is -1.0"),
    ("pretrain --model mlp --data good.npz --class-weights 0=0 1=0", "class_weights"),
    ("pretrain --model mlp --data good.npz --stage-lr head=0", "stage_lr of 'head' is 0.0", "freeze_through"),
    ("pretrain --model mlp --data good.npz --stage-lr head=nan", "stage_lr of 'head' is nan"),
    ("pretrain --model mlp --data numbers.csv --class-weights balanced", "class_weights", "regression"),
    ("pretrain --model mlp --data numbers.csv --label-smoothing 0.1", "label_smoothing", "regression"),
    ("cross-validate --model mlp --data numbers.csv --splitter stratified", "numbers.csv", "kfold"),
    ("pretrain --model mlp --data numbers.csv --augment mixup", "--augment"),
    # folders
    ("pretrain --model mlp --data empty", "empty/CLASS/IMAGE.jpg"),
    ("pretrain --model mlp --data loose", "loose", "3 images"),
    ("pretrain --model mlp --data 'notes only'", "notes only", "CLASS/TEXT.txt, but it holds 1 text directly"),
    ("predict --checkpoint cnn --data 'notes only'", "notes only"),
    ("pretrain --model mlp --data notes.txt", "notes.txt"),
    ("pretrain --model mlp --data photos:val", "'photos'", "'val'"),
    ("pretrain --model cnn --data unreadable", "unreadable/b/1.png"),
    ("pretrain --model cnn --data 'cut photos'", "cut photos/b/1.jpg"),
    ("pretrain --model cnn --data huge", "huge/b/1.png", "400,000,000"),
    ("predict --checkpoint cnn --data huge", "huge/b/1.png", "400,000,000"),
    ("pretrain --model cnn --data 'empty class'", "c (empty) of 'empty class'"),
    ("pretrain --model cnn --data divided", "lacks: c", ": b"),
    ("pretrain --model cnn --data divided:all", "train/ alone has b", "val/ alone has c"),
    # tables
    ("pretrain --model mlp --data nowhere.csv", "nowhere.csv"),
    ("pretrain --model mlp --data table.csv:pries", "table.csv", "pries", "price"),
    ("pretrain --model mlp --data table.csv", "table.csv:COLUMN"),
    ("pretrain --model mlp --data table.csv:rooms", "colour", "table.csv", "red"),
    ("pretrain --model mlp --data gaps.csv", "'y'", "gaps.csv", "line 3"),
    ("pretrain --model mlp --data ragged.csv", "ragged.csv", "line 3"),
    ("pretrain --model cnn --data twice.csv", "'file'", "twice.csv", "line 2", "line 4"),
    ("pretrain --model cnn --data gone.csv", "gone.csv", "gone.png", "line 3"),
    ("pretrain --model cnn --data away.csv", "'file'", "away.csv"),
    ("predict --checkpoint mlp --data table.csv", "colour", "table.csv", "red"),
    # too few classes or examples
    ("pretrain --model mlp --data 'one class'", "one class", "'a'"),
    ("pretrain --model mlp --data single.npz", "single.npz", "'0'"),
    ("cross-validate --model mlp --data digits:3", "digits:3", "'3'"),
    ("cross-validate --model mlp --data few.npz", "few.npz", "'1'", "3 examples", "--folds 3"),
    ("cross-validate --model cnn --data 'few photos'", "few photos", "5 folds"),
    ("cross-validate --model mlp --data good.npz --splitter group", "good.npz has 2 groups"),
    ("cross-validate --model mlp --data digits --splitter group", "digits has no groups"),
    ("cross-validate --model mlp --data digits --splitter time-series", "digits has no times"),
    ("cross-validate --model mlp --data unlabelled.npz", "unlabelled.npz has no labels"),
    # arrays
    ("pretrain --model mlp --data short.npz", "x has 20 examples but y has 19"),
    ("pretrain --model mlp --data short_groups.npz", "x has 20 examples but groups has 3"),
    ("pretrain --model mlp --data nan.npz", "nan.npz", "NaN", "index 10"),
    ("predict --checkpoint mlp --data nan.npz", "nan.npz", "NaN"),
    ("pretrain --model mlp --data infinite.npz", "infinite.npz", "infinity"),
    ("pretrain --model mlp --data objects.npz", "'y'", "Python objects"),
    ("predict --checkpoint mlp --data object_x.npz", "'x'", "Python objects"),
    ("pretrain --model mlp --data nameless.npz", "'x'", "inputs, outputs"),
    ("pretrain --model mlp --data halves.npz", "halves.npz", "float64"),
    ("pretrain --model mlp --data broken_numbers.npz", "broken_numbers.npz", "NaN", "index 1"),
    ("pretrain --model mlp --data text.npz", "text.npz"),
    ("pretrain --model mlp --data cut.npz", "cut.npz"),
    # checkpoints
    ("finetune --data good.npz", "--init", "--model"),
    ("finetune --init mlp --model mlp --data good.npz", "--init", "--model"),
    ("finetune --init mlp --data good.npz --model-arguments hidden=[4]", "--model-arguments", "--model"),
    ("finetune --init photos --data good.npz", "photos", "card.json"),
    ("finetune --init good.npz --data good.npz", "good.npz"),
    ("predict --checkpoint 'no card' --data good.npz", "no card", "card.json"),
    ("predict --checkpoint interrupted --data good.npz", "interrupted", "card.json"),
    ("predict --checkpoint newer --data good.npz", "format 2", "update jaxdl"),
    ("predict --checkpoint exchanged --data good.npz", "exchanged"),
    ("finetune --init exchanged --data good.npz", "exchanged"),
    ("predict --checkpoint 'torn card' --data good.npz", "torn card/card.json"),
    ("predict --checkpoint 'no arrays' --data good.npz", "no arrays"),
    ("predict --checkpoint 'torn arrays' --data good.npz", "torn arrays"),
    ("finetune --init mlp --data photos", "photos", "float32"),
    ("finetune --init cnn --data good.npz", "good.npz", "uint8"),
    ("predict --checkpoint cnn --data good.npz", "good.npz", "uint8"),
    ("finetune --init cnn --data digits --head keep", "head='keep'", "a, b", "digits", "head='fresh'"),
    ("pretrain --model cnn --data good.npz", "conv1", "[batch, height, width, channels]"),
]


@pytest.mark.parametrize(("line", "names"), [(line, names) for line, *names in MISTAKES])
def test_a_mistake_is_explained(refused, line, names):
    said = refused(f"{line} --out new")
    notes, begins, error = said.partition("jaxdl: error: ")
    assert all(".csv: " in note for note in notes.splitlines())  # what was read
    assert begins
    assert "jaxdl: error" not in error
    assert error.count("\n") == 1
    assert all(name in said for name in names), said


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
        ("''", "unknown command ''; expected one of: demo, recommend"),
        ("", "there is no command; expected one of: demo, recommend, .* See jaxdl --help"),
        ("pretrian --model mlp", "unknown command 'pretrian'.* mean 'pretrain'"),
        ("inspect resnet51", "'resnet51' is neither the folder of a checkpoint nor a model.* mean 'resnet50'"),
        ("inspect no/where", "'no/where' is neither the folder of a checkpoint nor a model"),
        ("inspect notes.txt", "'.*notes.txt' is not a jaxdl checkpoint"),
        ("inspect vit --num-outputs 0", "num_outputs is 0"),
        ("inspect resnet18 --input-shape 5", "a resnet needs \\[batch, height, width, channels\\]"),
        ("pretrain --model mlp --data good.npz --out new --epoch 3", "no option --epoch; .* --epochs"),
        ("pretrain --model mlp --data good.npz --out new --epochs three", "Error parsing --epochs.*'three'"),
        (
            "pretrain --model mlp --data good.npz --out new --stage-lr head",
            "'head'.*head=10",
        ),
        ("pretrain --model mlp --data good.npz --out new --stage-lr a=1 a=2", "'a' has two factors; expected one"),
        ("pretrain --model mlp --data good.npz", "jaxdl pretrain needs --out; "),
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

# --out is looked at first: nobody waits for data, or for a training that cannot be saved.
ARGUMENTS = {
    "pretrain": "--model mlp --data nowhere.npz",
    "finetune": "--init mlp --data nowhere.npz",
    "cross-validate": "--model mlp --data nowhere.npz",
    "predict": "--checkpoint mlp --data nowhere.npz",
    "demo": "",
}


@pytest.mark.parametrize("command", ARGUMENTS)
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("photos", "photos'"),
        ("mlp", "mlp'"),
        ("notes.txt", "notes.txt'"),
        ("notes.txt/new", "notes.txt'"),
        ("notes.txt/new/deep", "notes.txt'"),
        (".", "not empty"),
    ],
)
def test_out_that_holds_something_else(refused, command, out, message):
    said = refused(f"{command} {ARGUMENTS[command]} --out {out}")
    assert said.startswith("jaxdl: error: ")
    assert message in said


def test_a_table_is_no_folder(refused):
    assert "is a folder; expected the name of a file .csv" in refused(
        "predict --checkpoint mlp --data good.npz --out empty"
    )


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


@pytest.fixture(
    params=[
        pytest.param(OSError(28, "No space left on device"), id="disk full"),
        pytest.param(KeyboardInterrupt(), id="interrupted", marks=pytest.mark.slow),
    ]
)
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
        assert stop[2] in refused(f"{command}/new", code=stop[1], scores=True)  # they are printed before they are saved
    assert sorted(os.listdir(tmp_path / "new")) == ["run.json", "state"]
    assert "is not a jaxdl checkpoint" in refused(f"predict --checkpoint {tmp_path}/new --data good.npz --out new")
    for out in ("new", "whole"):
        cli.main(shlex.split(f"{command}/{out}"))
    kept = [checkpoints.fingerprint(jaxdl.restore(tmp_path / out).variables) for out in ("new", "whole")]
    assert kept[0] == kept[1]


def test_half_a_table_is_removed(refused, monkeypatch, stop):
    monkeypatch.setattr(Path, "replace", stop[0])
    assert stop[2] in refused("predict --checkpoint mlp --data good.npz --out new.csv", code=stop[1])


@pytest.mark.slow
def test_half_a_result_is_no_result(refused, monkeypatch, stop, tmp_path):
    """The folds that were trained are kept: the same command goes on with them."""
    command = "cross-validate --model mlp --data good.npz --epochs 1 --folds 2 --fold-strategy loop"
    command += f" --allow groups --out {tmp_path}"
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", stop[0])
        assert stop[2] in refused(f"{command}/new", code=stop[1], scores=True)  # they are printed before they are saved
    assert sorted(os.listdir(tmp_path / "new")) == ["run.json", "state"]
    cli.main(shlex.split(f"{command}/new"))
    cli.main(shlex.split(f"{command}/whole"))
    logits = [jaxdl.load_result(tmp_path / out).out_of_fold.kept for out in ("new", "whole")]
    np.testing.assert_array_equal(*logits)
    assert sorted(os.listdir(tmp_path / "new")) == sorted(os.listdir(tmp_path / "whole"))


# The program itself


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pretrain --model mlp --data nan.npz --out new", b"holds NaN or infinity"),
        pytest.param("finetune --init 'torn arrays' --data good.npz --out new", b"torn arrays", marks=pytest.mark.slow),
    ],
)
def test_the_program_says_one_thing_and_ends_with_2(home, line, message):
    before = seen(home)
    program = [sys.executable, "-c", "from jaxdl.cli import main; main()", *shlex.split(line)]
    done = subprocess.run(program, cwd=home, capture_output=True)
    assert done.returncode == 2
    assert says_what_was_read(done.stdout.decode())
    assert done.stderr.startswith(b"jaxdl: error: ")
    assert done.stderr.count(b"\n") == 1
    assert message in done.stderr
    assert seen(home) == before


def test_debug_shows_the_traceback(home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises(InputError, match="holds NaN") as raised:
        cli.main(shlex.split("pretrain --model mlp --data nan.npz --out new --debug"))
    assert [entry.name for entry in raised.traceback][-1] == "arrays"


@pytest.mark.parametrize(
    ("option", "said"), [("--epochs 1e9", "'1e9' is not a whole number"), ("--ema x", "'x' is not")]
)
def test_what_is_no_number_is_said_without_python(refused, option, said):
    shown = refused(f"pretrain --model mlp --data good.npz --out new {option}")
    assert said in shown
    assert "literal" not in shown


def test_an_error_of_the_system_names_the_file(refused, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "/somewhere/new")

    monkeypatch.setattr("jaxdl.commands.train._train", full)
    said = refused("pretrain --model mlp --data good.npz --out new")
    assert "'/somewhere/new': No space left on device" in said
    assert "Errno" not in said
