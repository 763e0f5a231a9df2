"""A run's folder through the commands: gone on with, finished, started again, logged, reported on."""

import contextlib
import json
import os
import re
import signal
import struct
import sys
import types

import jax
import numpy as np
import pytest
from command_line import call, jaxdl_command, refused, says_what_was_read, told_on_page

import jaxdl
from jaxdl.commands import loggers
from jaxdl.commands.console import Display
from jaxdl.errors import InputError
from jaxdl.training.resume import RunFolder
from jaxdl.validation.result import load_result
from jaxdl.weights.checkpoint import fingerprint

PRETRAIN = "pretrain --model mlp --data plain.npz --epochs 4 --batch-size 8 --model-arguments hidden=[4] dropout=0.2"
CROSS = (
    "cross-validate --model mlp --data plain.npz --epochs 3 --folds 2 --batch-size 8 --model-arguments hidden=[4] "
    "--fold-strategy loop"
)
STANDARD_ERROR = "no standard error"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Data, and a finished run of each kind."""
    home, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    x = random.normal(size=(32, 4)).astype(np.float32)
    np.savez(home / "plain.npz", x=x, y=(x[:, 0] > 0).astype(int), class_names=["no", "yes"])
    np.savez(home / "other.npz", x=x + 1, y=(x[:, 0] > 0).astype(int), class_names=["no", "yes"])
    with contextlib.chdir(home):
        for out, line in (("made", f"{PRETRAIN} --validation-fraction 0.25"), ("run", CROSS)):
            home.joinpath(f"{out}.txt").write_text(jaxdl_command(f"{line} --tensorboard --out {out}"))
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def curves(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


class Stop:
    """Something that happens when a row of the curves has been taken note of."""

    def __init__(self, monkeypatch, at, do):
        self.rows, take_note = 0, Display.row

        def row(display, row):
            take_note(display, row)
            self.rows += 1
            if self.rows == at:
                do()

        monkeypatch.setattr(Display, "row", row)


def crash():
    raise KeyboardInterrupt  # as sudden as can be in this process: nothing more is saved


# Folders of runs


def test_the_folder_tells_what_was_run(home):
    for out, line, kind in (
        ("made", f"{PRETRAIN} --validation-fraction 0.25 --tensorboard --out made", "pretrain"),
        ("run", f"{CROSS} --tensorboard --out run", "cross-validate"),
    ):
        told = json.loads((home / out / "run.json").read_text())
        assert told["command"] == ["jaxdl", *line.split()]
        assert (told["kind"], told["data"], told["init"], told["task"]) == (kind, "plain.npz", None, "auto")
        assert (told["finished"], told["broken"]) == (True, [])
        assert told["settings"]["plan"]["batch_size"] == 8
        assert told["settings"]["model"]["arguments"]["hidden"] == [4]
        assert told["environment"]["packages"]["jax"] == jax.__version__
        assert not (home / out / "state").exists()


@pytest.mark.parametrize(("command", "out"), [(PRETRAIN + " --validation-fraction 0.25", "made"), (CROSS, "run")])
def test_a_finished_run_is_left_as_it_is_and_told_again(home, command, out):
    """The options about how it is carried out change no number."""
    before = content(home / out)
    for options in ("", "--save-every 1 --stream always --workers 0 --tensorboard --augment none"):
        code, said, err = call(f"{command} {options} --out {out}")
        assert (code, err) == (0, "")
        read, rest = said.split(f"the run in '{home / out}' is finished; its results are there\n")
        assert read + rest == (home / f"{out}.txt").read_text()
    assert content(home / out) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--learning-rate 0.5", ["plan.learning_rate: 0.001 then, 0.5 now"]),
        ("--clip-norm 1 --ema 0.5", ["plan.clip_norm: None then, 1.0 now", "plan.ema: 0.0 then, 0.5 now"]),
        ("--class-weights yes=2", ["plan.class_weights: None then, {'yes': 2.0} now"]),
        ("--model-arguments hidden=[5]", ["model.arguments.hidden: [4] then, [5] now"]),
        ("--data other.npz", ["data.name: plain.npz then, other.npz now", "data.sha256: "]),
        ("--folds 4", ["folds: [0, 1] then, [0, 1, 2, 3] now", "split.k: 2 then, 4 now", "split.sha256: "]),
    ],
)
def test_other_settings_are_listed(home, options, said):
    before = content(home / "run")
    code, out, err = call(f"{CROSS} {options} --out run")
    assert code == 2
    assert says_what_was_read(out)
    assert err.startswith(f"jaxdl: error: '{home / 'run'}' holds a run with other settings:\n")
    for difference in said:
        assert f"\n  {difference}" in err
    assert err.count(" then, ") == max(len(said), 1)
    assert "--restart" in err
    assert content(home / "run") == before


def test_another_command_is_refused(home):
    before = content(home)
    code, _, err = call(f"{PRETRAIN} --out run")
    assert code == 2
    assert "holds what cross-validate made, and this is pretrain" in err
    assert content(home) == before


def test_restart_moves_the_old_run_aside(tmp_path):
    for seed in range(3):
        old = {path.relative_to(tmp_path / "new"): held for path, held in content(tmp_path / "new").items()}
        code, _, err = call(f"{PRETRAIN} --epochs 1 --seed {seed} --restart --out {tmp_path / 'new'}")
        assert code == 0, err
        assert jaxdl.restore(tmp_path / "new").card.plan["seed"] == seed
        if seed:
            aside = tmp_path / f"new.old-{seed}"
            assert err == f"the old {tmp_path / 'new'} is now {aside}\n"
            assert {path.relative_to(aside): held for path, held in content(aside).items()} == old
    assert sorted(os.listdir(tmp_path)) == ["new", "new.old-1", "new.old-2"]


def test_restart_moves_nothing_but_runs(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    assert "is a folder that is not empty; it was left as it is" in refused(
        f"{PRETRAIN} --restart --out {tmp_path / 'photos'}"
    )
    assert os.listdir(tmp_path) == ["photos"]
    assert call(f"{PRETRAIN} --epochs 1 --restart --out {tmp_path / 'new'}")[0] == 0  # nothing to move
    assert sorted(os.listdir(tmp_path)) == ["new", "photos"]


def test_a_damaged_run_is_told_and_can_be_begun_anew(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "run.json").write_text('{"format": 1')
    assert "run.json' is damaged" in refused(f"{PRETRAIN} --out {tmp_path / 'new'}")
    assert call(f"{PRETRAIN} --epochs 1 --restart --out {tmp_path / 'new'}")[0] == 0
    (tmp_path / "new" / "run.json").write_text('{"format": 99, "finished": true}')
    assert "update jaxdl" in refused(f"{PRETRAIN} --out {tmp_path / 'new'}")


# Interruptions


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, home, monkeypatch, number):
    line = f"{PRETRAIN} --validation-fraction 0.25 --out {tmp_path / 'new'}"
    with monkeypatch.context() as patch:
        Stop(patch, 2, lambda: os.kill(os.getpid(), number))
        code, _, err = call(line)
    assert code == 128 + number
    assert "stopping after the step under way, the state will be saved" in err
    assert "the same command goes on from there" in err
    assert signal.getsignal(number) is not None
    assert sorted(os.listdir(tmp_path / "new")) == ["run.json", "state"]
    with monkeypatch.context() as patch:
        again = Stop(patch, None, None)
        code, _, err = call(line)
    assert code == 0
    assert f"going on with the run in {tmp_path / 'new'}" in err
    assert again.rows == 2  # of four epochs
    made = [jaxdl.restore(path) for path in (home / "made", tmp_path / "new")]
    assert fingerprint(made[0].variables) == fingerprint(made[1].variables)
    assert curves(home / "made") == curves(tmp_path / "new")


def test_a_signal_before_training_ends_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "load", lambda *arguments, **named: os.kill(os.getpid(), signal.SIGTERM))
    code, _, err = call(f"{PRETRAIN} --out {tmp_path / 'new'}")
    assert (code, err) == (143, "jaxdl: terminated\n")
    assert os.listdir(tmp_path) == []


# TensorBoard


def read_events(folder):
    """Scalars ``{tag: {step: value}}`` as TensorBoard takes them: a start purges what is at its step and later."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    scalars = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack_from("<Q", content)  # then a checksum, the event, a checksum
            event, content = Event.FromString(content[12 : 12 + length]), content[16 + length :]
            if event.HasField("file_version"):
                assert event.file_version == "brain.Event:2"  # of which starts purge
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                scalars = {tag: {s: v for s, v in held.items() if s < event.step} for tag, held in scalars.items()}
            for value in event.summary.value:
                held = scalars.setdefault(value.tag, {})
                assert event.step not in held, f"{value.tag} has step {event.step} twice"
                held[event.step] = value.simple_value
    return scalars


def expected(rows):
    """The same from the rows of metrics.jsonl."""
    scalars = {}
    for row in rows:
        flat = {k: v for k, v in row.items() if k not in ("step", "fold", "stage_grad_norms")}
        flat |= {f"grad_norm/{stage}": norm for stage, norm in row["stage_grad_norms"].items()}
        for name, value in flat.items():
            scalars.setdefault(name, {})[row["step"]] = value
    return scalars


def assert_same_scalars(found, wanted):
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].keys() == values.keys(), name
        np.testing.assert_allclose([found[name][s] for s in values], list(values.values()), rtol=1e-6)


def test_tensorboard_shows_the_curves(home):
    found = read_events(home / "made" / "tensorboard")
    assert set(found["train_loss"]) == {3, 6, 9, 12}
    assert {"test_accuracy", "grad_norm/head", "learning_rate", "epoch"} <= found.keys()
    assert_same_scalars(found, expected(curves(home / "made")))
    assert sorted(os.listdir(home / "run" / "tensorboard")) == ["fold-0", "fold-1"]
    for fold in range(2):
        rows = [row for row in curves(home / "run") if row["fold"] == fold]
        assert_same_scalars(read_events(home / "run" / "tensorboard" / f"fold-{fold}"), expected(rows))


@pytest.mark.parametrize("command", [PRETRAIN, pytest.param(CROSS, marks=pytest.mark.slow)])
def test_no_step_is_doubled_after_an_interruption(tmp_path, monkeypatch, command):
    line = f"{command} --tensorboard --save-every 0 --out {tmp_path / 'new'}"
    for at in (2, 1):
        with monkeypatch.context() as patch:
            Stop(patch, at, crash)  # its last row was logged, but not saved
            assert call(line)[0] == 130
    jaxdl_command(line)
    folder, rows = tmp_path / "new" / "tensorboard", curves(tmp_path / "new")
    fold = folder if command == PRETRAIN else folder / "fold-0"
    assert len(list(fold.glob("events*"))) >= 3
    for place in [fold] if command == PRETRAIN else folder.iterdir():
        mine = [row for row in rows if f"fold-{row.get('fold')}" == place.name or command == PRETRAIN]
        assert_same_scalars(read_events(place), expected(mine))


def test_what_was_logged_of_a_failed_beginning_is_removed(tmp_path, monkeypatch):
    def fail():
        raise InputError("the disk caught fire")

    with monkeypatch.context() as patch:
        Stop(patch, 1, fail)
        assert "the disk caught fire" in refused(f"{PRETRAIN} --tensorboard --out {tmp_path / 'new'}")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("option", "package"), [("--tensorboard", "tensorboardX"), ("--wandb project", "wandb")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, option, package):
    monkeypatch.setitem(sys.modules, package, None)  # importing it then fails
    said = refused(f"{PRETRAIN} {option} --out {tmp_path / 'new'}")
    assert f"needs {'the package ' if package == 'wandb' else ''}{package}: pip install {package}" in said
    assert os.listdir(tmp_path) == []


# Weights & Biases


class FakeRun:
    """Keeps what wandb's run is given."""

    def __init__(self, **options):
        self.options, self.rows, self.metrics, self.finished = options, [], [], False

    def define_metric(self, name, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, row):
        assert not self.finished
        self.rows.append(row)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the package, which the tests do not install; what it was told."""
    module, runs = types.ModuleType("wandb"), []
    module.runs, module.logins = runs, []
    module.errors = types.SimpleNamespace(Error=type("Error", (Exception,), {}))
    module.login = lambda: module.logins.append(True)
    module.init = lambda **options: runs.append(FakeRun(**options)) or runs[-1]
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return module


@pytest.mark.slow
def test_wandb_is_told_the_curves(tmp_path, monkeypatch, wandb):
    line = f"{CROSS} --wandb my-project --save-every 0 --out {tmp_path / 'new'}"
    with monkeypatch.context() as patch:
        Stop(patch, 4, crash)
        assert call(line)[0] == 130
    jaxdl_command(line)
    first, second = wandb.runs
    assert first.finished
    assert second.finished
    assert first.options == second.options  # gone on with
    assert (first.options["project"], first.options["name"], first.options["resume"]) == ("my-project", "new", "allow")
    assert first.options["dir"] == tmp_path / "new"
    assert first.options["config"]["batch_size"] == 8
    rows = {}
    for logged in first.rows + second.rows:  # what comes later at the same step takes its place
        fold = next(iter(logged)).split("/")[0]
        rows[fold, logged[f"{fold}/step"]] = logged
    for row in curves(tmp_path / "new"):
        logged = rows.pop((f"fold-{row['fold']}", row["step"]))
        assert logged[f"fold-{row['fold']}/train_loss"] == row["train_loss"]
        assert logged[f"fold-{row['fold']}/grad_norm/head"] == row["stage_grad_norms"]["head"]
    assert not rows
    assert ("fold-1/*", "fold-1/step") in second.metrics
    call(line)
    assert len(wandb.runs) == 2  # a finished run is not begun there
    jaxdl_command(f"{line} --restart")
    assert wandb.runs[2].options["id"] != first.options["id"]


def test_a_failed_login_is_told_before_training(tmp_path, monkeypatch, wandb):
    def login():
        raise wandb.errors.Error("no API key")

    wandb.login = login
    said = refused(f"{PRETRAIN} --wandb project --out {tmp_path / 'new'}")
    assert "wandb cannot log in: no API key (WANDB_MODE=offline needs no login)" in said
    assert os.listdir(tmp_path) == []
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert call(f"{PRETRAIN} --epochs 1 --wandb project --out {tmp_path / 'new'}")[0] == 0
    assert [set(row) for row in wandb.runs[0].rows] == [{*expected(curves(tmp_path / "new")), "step"}]


def test_a_wandb_that_does_not_start_is_told(tmp_path, wandb):
    def init(**options):
        raise wandb.errors.Error("no network")

    wandb.init = init
    assert "wandb cannot start: no network" in refused(f"{PRETRAIN} --wandb project --out {tmp_path / 'new'}")
    assert os.listdir(tmp_path) == []


def test_nothing_is_sent_of_the_run_before_its_first_row(tmp_path, wandb):
    made = loggers.WeightsAndBiases("project", RunFolder(tmp_path / "new"), {})
    made.close()
    assert wandb.logins == [True]
    assert wandb.runs == []


# Reports


def test_the_numbers_stand_before_the_page_is_drawn(tmp_path, monkeypatch):
    """Whatever becomes of the page. The same command then draws it, and prints the numbers again."""

    def stopped(*_):
        raise InputError("no page today")

    with monkeypatch.context() as patch:
        patch.setattr("jaxdl.commands.run.write_run_report", stopped)
        code, said, err = call(f"{CROSS} --out {tmp_path / 'new'}")
    assert (code, err) == (2, "jaxdl: error: no page today\n")
    result = load_result(tmp_path / "new")
    numbers = f"{100 * result.mean:.1f} ± {100 * result.std:.1f} %"
    assert numbers in said
    assert not (tmp_path / "new" / "report.html").exists()
    again = jaxdl_command(f"{CROSS} --out {tmp_path / 'new'}")
    assert numbers in again
    assert STANDARD_ERROR not in again
    assert STANDARD_ERROR in told_on_page(again)


def test_no_page_where_none_is_wanted(tmp_path):
    said = jaxdl_command(f"{CROSS} --no-report --out {tmp_path / 'new'}")
    assert "report.html" not in said
    for words in (STANDARD_ERROR, load_result(tmp_path / "new").interval["about"]):
        assert words in " ".join(said.split())  # which the page would tell
    assert "report.html" not in os.listdir(tmp_path / "new")
    jaxdl_command(f"report {tmp_path / 'new'}")
    assert "report.html" in os.listdir(tmp_path / "new")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("learning-curve --sizes 100% --folds 2", "± standard deviation between folds"),
        ("variance --splits 2 --seeds 2 --configurations none", "another data set would vary more"),
    ],
)
def test_what_the_numbers_mean_is_told_once(tmp_path, line, words):
    """In the terminal where there is no page, else on the page, to which the terminal refers."""
    line += f" --model mlp --data plain.npz --epochs 1 --model-arguments hidden=[4] --out {tmp_path / 'new'}"
    said = jaxdl_command(f"{line} --no-report")
    assert words in " ".join(said.split())
    assert "#" not in said
    assert "For comparison, on the same" in said
    again = jaxdl_command(line)
    assert "most frequent class" in (tmp_path / "new" / "report.html").read_text()
    assert words not in " ".join(again.split())
    assert words in told_on_page(again)


def test_a_report_of_a_cross_validation(home):
    page, before = home / "run" / "report.html", load_result(home / "run")
    page.unlink()
    assert jaxdl_command("report run") == f"report in {page}\n"
    text = page.read_text()
    assert f"{100 * before.mean:.1f}" in text
    assert all(word in text for word in ("Cross-validation on plain.npz", "--folds", before.split["sha256"][:8]))
    assert not re.search(r"(src|href)=\"(?!#|data:)", text)


def test_a_report_of_a_pretraining(home, tmp_path):
    assert jaxdl_command(f"report made --out {tmp_path / 'page.html'}") == f"report in {tmp_path / 'page.html'}\n"
    text = (tmp_path / "page.html").read_text()
    assert "Pretraining on plain.npz" in text
    assert f"{100 * curves(home / 'made')[-1]['test_accuracy']:.1f}" in text
    assert "made" not in os.listdir(tmp_path)
    assert not (home / "made" / "report.html").exists()
