"""Files that jaxdl wrote, and that something cut or changed since: each is named, by every command that reads it."""

import json
import shutil

import numpy as np
import pytest
from command_line import call, jaxdl_command, refused
from interruptions import Stop

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.training.execution import Execution
from jaxdl.training.resume import Interrupted, RunFolder

MLP = "--model mlp --model-arguments hidden=[8] --epochs 1"
FOLDS = "--data digits:0-1 --folds 2 --fold-strategy loop"
MADE = {
    "cv": f"cross-validate {MLP} {FOLDS} --keep-models always",
    "other": f"cross-validate {MLP} {FOLDS} --seed 0 --learning-rate 0.1",
    "search": f"search {MLP} {FOLDS} --space learning_rate=0.1,0.01 --no-nested",
    "curve": f"learning-curve {MLP} {FOLDS} --sizes 100%",
    "variance": f"variance {MLP} --data digits:0-1 --splits 2 --seeds 2 --fold-strategy loop",
    "pre": f"pretrain {MLP} --data digits:2-3",
    "probe": "probe --init pre --data digits:0-1 --folds 2 --heads ridge",
    "split": "split --data digits:0-1 --folds 2",
    "ens": "ensemble cv",
}
PREDICT = "predict --data digits:0-1 --out new.csv --checkpoint"
READ = [  # the file, and a command that reads it
    ("cv/result.json", "report cv"),
    ("cv/result.json", "compare cv other"),
    ("cv/out_of_fold.npz", "report cv"),
    ("cv/out_of_fold.npz", "compare cv other"),
    ("cv/metrics.jsonl", "report cv"),
    ("cv/metrics.jsonl", "compare cv other"),
    ("cv/run.json", "report cv"),
    ("cv/run.json", f"{MADE['cv']} --out cv"),
    ("cv/split.npz", f"cross-validate {MLP} --data digits:0-1 --splitter cv --out new"),
    ("cv/folds/1/card.json", "ensemble cv --out new"),
    ("cv/out_of_fold.npz", "ensemble cv --out new"),
    ("curve/learning_curve.json", "report curve"),
    ("curve/sizes/100%/out_of_fold.npz", "report curve"),
    ("variance/variance.json", "report variance"),
    ("probe/probe.json", "report probe"),
    ("probe/ridge/out_of_fold.npz", "report probe"),
    ("split/split.npz", f"cross-validate {MLP} --data digits:0-1 --splitter split --out new"),
    ("pre/card.json", "report pre"),
    ("pre/metrics.jsonl", "report pre"),
    ("pre/trained_on.u64", f"{PREDICT} pre"),
    ("ens/ensemble.json", f"{PREDICT} ens"),
    ("ens/trained_on.npz", f"{PREDICT} ens"),
    ("ens/held_out.npz", f"{PREDICT} ens"),
]


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def flip(file):
    """A bit in the middle of the largest member of an archive, or of a text."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x80
    file.write_bytes(content)


def of_another_kind(file):
    file.write_text("[]\n")


def without_keys(file):
    file.write_text("{}\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for name, line in MADE.items():
            jaxdl_command(f"{line} --out {name}")
    return home


@pytest.fixture
def home(made, tmp_path, monkeypatch, request):
    """All runs; where a test says that it damages the `file` RUN/NAME, the other runs are links."""
    given = getattr(request.node, "callspec", None)
    file = given.params.get("file", "") if given else ""
    (tmp_path / "home").mkdir()
    for run in made.iterdir():
        place = tmp_path / "home" / run.name
        if "/" not in file or file.startswith(f"{run.name}/"):
            shutil.copytree(run, place)
        else:
            place.symlink_to(run)
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.parametrize("damage", [cut, empty, flip, of_another_kind, without_keys])
@pytest.mark.parametrize(("file", "line"), READ)
def test_a_damaged_file_is_named(home, file, line, damage):
    if file == "cv/run.json" and damage is without_keys and line == "report cv":
        pytest.skip("a report does without all that it may say")
    damage(home / file)
    assert file in refused(line)


@pytest.mark.parametrize("key", ["task", "mean", "folds", "split", "data", "plan"])
def test_a_missing_key_is_named(home, key):
    file = home / "cv" / "result.json"
    held = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in held.items() if name != key}))
    said = refused("report cv")
    assert "cv/result.json" in said
    assert f" {key})" in said


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("cv/result.json", ("folds", 0, "test")),
        ("cv/result.json", ("split", "kind")),
        ("cv/result.json", ("data", "name")),
        ("cv/result.json", ("interval", "low")),
        ("cv/result.json", ("metrics", "pooled")),
        ("cv/result.json", ("calibration", "temperatures")),
        ("curve/learning_curve.json", ("points", 0, "interval", "high")),
        ("variance/variance.json", ("scores", 0)),
        ("variance/variance.json", ("components", 0, "share")),
        ("probe/probe.json", ("heads", "ridge", "grid")),
        ("pre/card.json", ("environment",)),
    ],
)
@pytest.mark.parametrize("value", [None, ["another"]])
def test_a_value_of_another_type_within_is_named(home, file, place, value):
    held = json.loads((home / file).read_text())
    within = held
    for key in place[:-1]:
        within = within[key]
    if within[place[-1]] is None or (value is None and place[-1] in ("environment",)):
        pytest.skip("it may be None")
    within[place[-1]] = value
    (home / file).write_text(json.dumps(held))
    assert file in refused(f"report {file.split('/')[0]}")


def test_predictions_of_other_folds_are_named(home):
    file = home / "cv" / "out_of_fold.npz"
    with np.load(file) as held:
        arrays = dict(held)
    np.savez_compressed(file, **{name: array[:-3] for name, array in arrays.items()})
    assert "cv/out_of_fold.npz" in refused("report cv")


@pytest.mark.parametrize(
    "damage",
    [cut, *(pytest.param(damage, marks=pytest.mark.slow) for damage in (empty, of_another_kind, without_keys))],
)
@pytest.mark.parametrize("file", ["search/search.json", "cv/folds/0/card.json", "cv/folds/0/metrics.jsonl"])
def test_a_section_that_cannot_be_made_says_which_file_is_damaged(home, file, damage):
    if file.startswith("cv"):
        shutil.rmtree(home / "cv" / "folds" / "1")
    damage(home / file)
    run = file.split("/")[0]
    jaxdl_command(f"report {run} --out page.html")
    assert file in (home / "page.html").read_text()


@pytest.mark.parametrize("file", ["split.npz", "run.json"])
def test_an_ensemble_reads_no_more_of_a_run_than_it_keeps(home, file):
    before = jaxdl.ensemble(home / "cv")
    cut(home / "cv" / file)
    again = jaxdl.ensemble(home / "cv")
    np.testing.assert_equal(again.variables, before.variables)


def test_an_ensemble_can_be_made_of_the_networks_of_a_damaged_run(home):
    """As the message says; it has no held-out predictions then, but predicts alike."""
    before = jaxdl.ensemble(home / "cv")
    cut(home / "cv" / "out_of_fold.npz")
    assert "cv/folds/0 cv/folds/1" in refused("ensemble cv --out again")
    jaxdl_command("ensemble cv/folds/0 cv/folds/1 --out again")
    again = jaxdl.load_ensemble(home / "again")
    np.testing.assert_equal(again.variables, before.variables)
    assert again.held_out is None


def test_a_report_and_a_comparison_read_no_split(home):
    said = jaxdl_command("compare cv other --test bootstrap")
    cut(home / "cv" / "split.npz")
    assert jaxdl_command("compare cv other --test bootstrap") == said
    jaxdl_command("report cv")


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        ("pre", f"{PREDICT} pre"),
        ("pre", "finetune --init pre --data digits:0-1 --out new"),
        ("ens", f"{PREDICT} ens"),
        ("cv/folds/1", "ensemble cv --out new"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # the storage library complains of what it finds
def test_damaged_arrays_are_told_in_short(home, folder, line):
    for file in (home / folder / "variables").glob("ocdbt.process_*/d/*"):
        cut(file)
    said = refused(line)
    assert f"{folder}'" in said
    assert "TensorStore" not in said
    assert len(said) < 400


# What is kept of a run under way


SOURCE = data.subset(data.digits([0, 1]), np.arange(0, 300, 4))
MODEL, PLAN = jaxdl.create("mlp", 2, hidden=(4,)), jaxdl.Plan(epochs=3, batch_size=16)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A cross-validation that was stopped in its second fold."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    with pytest.raises(Interrupted):
        cross_validate(RunFolder(folder, save_every=0, should_stop=Stop(16)))
    return folder


def cross_validate(work):
    return jaxdl.cross_validate(MODEL, SOURCE, PLAN, folds=3, execution=Execution(fold_strategy="loop", work=work))


@pytest.mark.parametrize("damage", [cut, empty, of_another_kind, without_keys])
@pytest.mark.parametrize(
    "name", ["strategy.json", "streaming.json", "folds-0.finished/made.json", "folds-0.finished/0.npz"]
)
def test_damaged_state_is_named(begun, tmp_path, name, damage):
    shutil.copytree(begun, tmp_path / "run")
    damage(tmp_path / "run" / "state" / name)
    with pytest.raises(InputError, match=f"{name}'.*--restart"):
        cross_validate(tmp_path / "run")


def test_damaged_arrays_of_a_save_are_told_in_short(begun, tmp_path):
    shutil.copytree(begun, tmp_path / "run")
    files = [p for p in (tmp_path / "run" / "state" / "folds-1").rglob("*") if p.is_file() and p.parent.name == "d"]
    assert files
    for file in files:
        cut(file)
    with pytest.raises(InputError, match=r"state of the run in '.*folds-1'.*--restart") as error:
        cross_validate(tmp_path / "run")
    assert len(str(error.value)) < 400
    assert error.value.__cause__ is not None  # the library's own words, for --debug


def test_the_whole_story_is_there_for_who_asks(home):
    cut(home / "cv" / "out_of_fold.npz")
    with pytest.raises(InputError) as error:
        call("report cv --debug")
    assert error.value.__cause__ is not None
