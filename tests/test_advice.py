"""What a message advises helps: the command line that follows it comes further than the one that was refused."""

import re
import warnings

import numpy as np
import pytest
from command_line import call, refused
from word_pieces import word_pieces

MLP = "--model mlp --model-arguments hidden=[4] --epochs 1 --out"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Small data with a fault each."""
    home, random = tmp_path_factory.mktemp("advice"), np.random.default_rng(0)

    def save(name, y, **more):
        x = random.normal(size=(len(y), 16)).astype(np.float32)
        np.savez(home / f"{name}.npz", **{"x": x, "y": np.asarray(y), **more})

    twice = np.tile(random.normal(size=(10, 16)).astype(np.float32), (2, 1))
    save("one", ["a"] * 8 + ["b"] * 8 + ["c"])
    save("two", ["a"] * 8 + ["b"] * 8 + ["c"] * 2)
    save("tiny", ["a", "b", "a"])
    save("plain", ["no", "yes"] * 10)
    save("numbers", random.normal(size=20).astype(np.float32))
    save("copies", (["no"] * 5 + ["yes"] * 5) * 2, x=twice)
    save("grouped", ["no", "yes"] * 9, groups=np.repeat([0, 1, 2], 6))
    save("timed", ["no", "yes"] * 10, times=np.arange(20.0))
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


# a command line that is refused, the advice in its message, and what follows it
DIVISIONS = [
    ("one.npz", "--splitter kfold", "--splitter kfold"),
    ("two.npz", "--folds 2 or --splitter kfold", "--folds 2"),
    ("two.npz", "--folds 2 or --splitter kfold", "--splitter kfold"),
    ("tiny.npz --splitter kfold", "--folds 3 or fewer", "--folds 3"),
    ("timed.npz --splitter time-series --folds 30", "--folds 19 or fewer", "--folds 19"),
    ("plain.npz --splitter group", "--splitter auto or kfold", "--splitter auto"),
    ("plain.npz --splitter purged", "--splitter auto or kfold", "--splitter kfold"),
    ("grouped.npz --splitter group", "--folds 3", "--folds 3"),
    ("grouped.npz --splitter leave-groups-out --test-groups 3", "fewer than the 3 groups", "--test-groups 2"),
    ("numbers.npz --splitter stratified", "splitter 'kfold'", "--splitter kfold"),
    ("plain.npz --gap 3", "it is for time-series", "--splitter time-series"),
    ("plain.npz --splitter kfold --folds 1", "at least 2", "--folds 2"),
    ("plain.npz --splitter kfolds", "mean 'kfold'", "--splitter kfold"),
]


@pytest.mark.parametrize(("given", "advice", "followed"), DIVISIONS)
def test_advice_on_divisions_helps(given, advice, followed):
    said = refused(f"split --data {given}")
    assert advice in said
    code, _, err = call(f"split --data {given} {followed}")
    if "--gap" in given:  # which plain.npz has no times for: another message, whose advice the table has, too
        assert (code, "no times" in err) == (2, True)
    else:
        assert code == 0, err


TRAININGS = [
    ("plain.npz --augment flip", "--augment none", "--augment none"),
    ("plain.npz --metric acuracy", "mean 'accuracy'", "--metric accuracy"),
    ("plain.npz --freeze-through layr1", "mean 'layer1'", "--freeze-through layer1"),
    ("plain.npz --freeze-through head", "the last that can be frozen is 'layer1'", "--freeze-through layer1"),
    ("plain.npz --unfreeze-every 1", "such as 'body'", "--freeze-through body"),
    ("plain.npz --train norm", "train='all'", "--train all"),
    ("plain.npz --adapter lora:2:head", "lora:8", "--adapter lora:8"),
    ("plain.npz --stage-lr layr1=2", "mean 'layer1'", "--stage-lr layer1=2"),
    ("plain.npz --class-weights ye=2", "mean 'yes'", "--class-weights yes=2"),
    ("plain.npz --class-weights yes", "balanced", "--class-weights balanced"),
    ("plain.npz --accumulate 64", "at most 32", "--accumulate 32"),
    ("plain.npz --validation-fraction 0.01", "hold out 0.1 or more", "--validation-fraction 0.1"),
    ("plain.npz --optimizer AdamWW", "mean 'adamw'", "--optimizer adamw"),
    ("plain.npz --model-arguments hiden=[4]", "mean 'hidden'", "--model-arguments hidden=[4]"),
]


@pytest.mark.parametrize(
    ("given", "advice", "followed"),
    [pytest.param(*row, marks=[pytest.mark.slow] if i >= 3 else []) for i, row in enumerate(TRAININGS)],
)
def test_advice_on_trainings_helps(tmp_path, given, advice, followed):
    line = f"pretrain {MLP} {tmp_path / 'new'} --data {given}"
    assert advice in refused(line)
    code, _, err = call(f"{line} {followed}")  # the last of an option counts
    assert code == 0, err


@pytest.mark.parametrize(
    ("command", "given", "advice", "followed"),
    [
        ("cross-validate", "--splitter holdout --interval corrected-t", "'bootstrap'", "--interval bootstrap"),
        pytest.param(
            "cross-validate", "--fold-strategy vmap --stream always", "'auto'", "--fold-strategy auto",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "search", "--space lr=1e-3,1e-2", "mean 'learning_rate'", "--space learning_rate=1e-3,1e-2",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "search", "--space learning_rate=1e-3,1e-2 --trials 3", "strategy random", "--strategy random",
            marks=pytest.mark.slow,
        ),
        (
            "search --no-nested", "--space learning_rate=log:1e-3:1e-2:30 weight_decay=0:0.1:40", "--strategy random",
            "--strategy random --trials 2",
        ),
        pytest.param(
            "search --no-nested", "--space learning_rate=log:1e-3:1e-2:30 weight_decay=0:0.1:40", "LOW:HIGH:3",
            "--space learning_rate=log:1e-3:1e-2:3 weight_decay=0", marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_advice_on_folds_helps(tmp_path, command, given, advice, followed):
    line = f"{command} {MLP} {tmp_path / 'new'} --data plain.npz --folds 2 --no-report {given}"
    assert advice in refused(line)
    code, _, err = call(f"{line} {followed}")
    assert code == 0, err


@pytest.mark.parametrize(
    "command",
    [
        "cross-validate",
        pytest.param("learning-curve --sizes 100%", marks=pytest.mark.slow),
        pytest.param("variance --splits 2 --seeds 2 --configurations none", marks=pytest.mark.slow),
        pytest.param("search --space learning_rate=1e-3,1e-2 --inner-folds 2", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("followed", ["--group-duplicates", "--allow duplicates"])
def test_copies_are_grouped_wherever_that_is_advised(tmp_path, command, followed):
    folds = "" if command.startswith("variance") else "--folds 2"
    line = f"{command} {MLP} {tmp_path / 'new'} --data copies.npz {folds} --no-report"
    said = refused(line)
    assert followed in said
    code, _, err = call(f"{line} {followed}")
    assert code == 0, err


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("finetune --data plain.npz --out new --init mlp", "--model mlp"),
        ("finetune --data plain.npz --out new --init plain.npz", "jaxdl convert --from"),
        ("pretrain --data plain.npz --out new --init x", "finetune, cross-validate"),
        ("split --data plain.npz --tile 3", "leave it out"),
        ("split --data plain.npz --task multilabel", "leave out the task multilabel"),
    ],
)
def test_a_wrong_way_names_the_right_one(line, named):
    assert re.search(re.escape(named), refused(line))


def test_devices_that_are_not_there_are_said(monkeypatch):
    import jax

    def none():
        raise AssertionError

    monkeypatch.setattr(jax, "local_devices", none)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert "JAX_PLATFORMS" in refused("split --data plain.npz")


PLANS = [
    ("--on h100x8 l4 --price 1 2 3", "one for each, or one for all", "--on h100x8 l4 --price 1 2"),
    ("--on h100:4x4", "such as h100x8", "--on h100x8"),
    ("--on h10", "mean 'h100'", "--on h100"),
    ("--on h100x8 --mesh data=4,model=2", "leave --mesh out", "--on h100x8"),
]


@pytest.mark.parametrize(("given", "advice", "followed"), PLANS)
def test_advice_on_plans_helps(given, advice, followed):
    plan = "plan pretrain --data plain.npz --model mlp --model-arguments hidden=[4] --compiles 0"
    assert advice in refused(f"{plan} {given}")
    code, _, err = call(f"{plan} {followed}")
    assert code == 0, err


@pytest.mark.slow
def test_a_rate_that_is_high_for_a_pretrained_bert_is_noted_and_the_advice_ends_that(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    word_pieces(tmp_path)
    lines = [f"{kind},a {kind} day number {i}" for i in range(8) for kind in ("good", "bad")]
    (tmp_path / "r.csv").write_text("\n".join(["label,text", *lines]))
    asked = "--data r.csv:label --text-column text --epochs 1 --no-report"
    small = "--model bert_tiny --model-arguments width=8 depth=1 num_heads=2 longest=16 --tokenizer . --length 12"

    def noted(line):
        with warnings.catch_warnings(record=True) as held:
            warnings.simplefilter("always")
            code, out, err = call(line)
        assert code == 0, out + err
        return next((str(one.message) for one in held if "stages of a pretrained Bert" in str(one.message)), "")

    assert not noted(f"pretrain {asked} {small} --out bert")  # nothing can be lost
    said = noted(f"finetune {asked} --init bert --out high")
    assert "0.001 is high" in said
    assert "--learning-rate 5e-5" in said
    assert "--freeze-through body" in said
    for i, followed in enumerate(
        [
            "--learning-rate 5e-5",
            "--freeze-through body",
            "--adapter lora:2",
            "--stage-lr block1=0.1 embed=0.1 pool=0.1",
        ]
    ):
        assert not noted(f"finetune {asked} --init bert {followed} --out low{i}"), followed
    assert not noted("find-lr --data r.csv:label --text-column text --init bert --steps 10")
