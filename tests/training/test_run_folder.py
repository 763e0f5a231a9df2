"""The folder of a run: one process at a time, whole saves behind damaged ones, the same data by another name."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import jaxdl_command
from interruptions import Stop
from PIL import Image

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.training.execution import Execution
from jaxdl.training.lock import lock, unlock
from jaxdl.training.resume import Interrupted, RunFolder, set_aside

SOURCE = data.subset(data.digits([0, 1]), np.arange(0, 300, 4))
PLAN = jaxdl.Plan(epochs=3, batch_size=16)


def train(work):
    return jaxdl.pretrain(jaxdl.create("mlp", 2, hidden=(4,)), SOURCE, PLAN, execution=Execution(work=work))


HOLDER = """
import sys, time
from pathlib import Path
from jaxdl.training.lock import lock
lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that works in a folder."""
    (tmp_path / "run").mkdir()
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_in_which_another_process_works_is_left_alone(holder, tmp_path):
    run = tmp_path / "run"
    for call in (lambda: lock(run), lambda: train(RunFolder(run)), lambda: set_aside(run)):
        with pytest.raises(InputError, match=rf"process {holder.pid} .*run'"):
            call()
    assert [path.name for path in run.iterdir()] == [".lock"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (run / ".lock").exists()  # it could not clean up
    train(RunFolder(run))  # the lock of a process that is dead binds nobody
    assert json.loads((run / "run.json").read_text())["settings"]["call"] == "finetune"


def test_what_another_process_has_just_begun_is_not_removed(holder, tmp_path):
    """A command that is refused removes what it began itself, and that alone."""
    begun = {"format": 1, "settings": {}, "environment": {}, "finished": False}
    (tmp_path / "run" / "run.json").write_text(json.dumps(begun))
    work = RunFolder(tmp_path / "run")
    with pytest.raises(InputError, match=str(holder.pid)):
        work.claim({}, {})
    work.abandon()
    assert (tmp_path / "run" / "run.json").exists()


def test_a_process_may_open_its_own_folder_again_and_leaves_no_lock(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(RunFolder(run, save_every=0, should_stop=Stop(2)))
    work = RunFolder(run)
    train(work)
    assert (run / ".lock").exists()
    work.finish()
    assert [path.name for path in run.iterdir()] == ["run.json"]
    unlock(run)  # of nobody: nothing happens


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run with two saves."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Interrupted):
        train(RunFolder(run, save_every=0, should_stop=Stop(9)))
    return run


def saves_of(run):
    return sorted((p for p in (run / "state").glob("*/*") if p.name.isdigit()), key=lambda p: int(p.name))


def damage(save, how):
    for file in [p for p in save.rglob("*") if p.is_file()]:
        content = file.read_bytes()
        if how == "cut":
            file.write_bytes(content[: len(content) // 2])
        elif how == "empty":
            file.write_bytes(b"")
        elif how == "gone":
            file.unlink()


@pytest.mark.parametrize("how", ["cut", *(pytest.param(how, marks=pytest.mark.slow) for how in ("empty", "gone"))])
@pytest.mark.filterwarnings("ignore:.*:UserWarning:orbax")
def test_a_damaged_newest_save_gives_way_to_the_one_before(stopped, tmp_path, how):
    shutil.copytree(stopped, tmp_path / "run")
    saves = saves_of(tmp_path / "run")
    assert len(saves) == 2
    damage(saves[-1], how)
    with pytest.warns(UserWarning, match=rf"\({saves[-1].name}: .*\({saves[0].name}\)"):
        again = train(RunFolder(tmp_path / "run"))
    whole = train(None)
    for one, other in zip(walk(again), walk(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def walk(checkpoint):
    return [np.asarray(leaf) for _, leaf in jaxdl.models.variables.walk_shapes(checkpoint.variables)]


def test_where_all_saves_are_damaged_the_run_says_so(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    for save in saves_of(tmp_path / "run"):
        damage(save, "cut")
    with pytest.raises(InputError, match="--restart"):
        train(RunFolder(tmp_path / "run"))


def test_a_pipe_among_the_saves(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    os.mkfifo(saves_of(tmp_path / "run")[-1] / "pipe")
    with pytest.raises(InputError, match="pipe"):
        train(RunFolder(tmp_path / "run"))


def test_the_same_data_by_another_way_to_write_its_folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    model = jaxdl.create("mlp", 2, hidden=(4,))

    def run(spec, work):
        jaxdl.pretrain(model, data.load(spec), PLAN, execution=Execution(work=work))

    monkeypatch.chdir(tmp_path)
    with pytest.raises(Interrupted):
        run("photos", RunFolder("run", {"data": "photos"}, save_every=0, should_stop=Stop(2)))
    (tmp_path / "elsewhere").mkdir()
    for home, spec in ((".", "./photos"), (".", "photos/"), ("elsewhere", "../photos"), (".", f"{tmp_path}/photos")):
        monkeypatch.chdir(tmp_path / home)
        with pytest.raises(Interrupted):
            run(spec, RunFolder(tmp_path / "run", {"data": spec}, save_every=0, should_stop=Stop(0)))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"] == f"{tmp_path}/photos"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "photos" / "a" / "0.png")
    with pytest.raises(InputError, match=r"data\.sha256"):
        run("photos", RunFolder(tmp_path / "run"))


@pytest.mark.parametrize("mask", [0o027, *(pytest.param(mask, marks=pytest.mark.slow) for mask in (0o022, 0o002))])
def test_modes_follow_the_umask(tmp_path, mask):
    """Of checkpoints, exports, predictions: what the same person writes otherwise has the same mode."""
    before = os.umask(mask)
    try:
        model = jaxdl.create("resnet20_cifar", 2, depths=(1,), width=2)
        made = jaxdl.from_model(model, data.ImagePreprocessing((8, 8, 3), (0.5,) * 3, (0.2,) * 3), tuple("ab"))
        jaxdl.save(made, tmp_path / "c")
        jaxdl.export(made, tmp_path / "e", layout="akamaster")
        np.savez(tmp_path / "d.npz", x=np.zeros((3, 8, 8, 3), np.uint8), y=np.array([0, 1, 0]))
        jaxdl_command(f"predict --checkpoint {tmp_path / 'c'} --data {tmp_path / 'd.npz'} --out {tmp_path / 'p.csv'}")
    finally:
        os.umask(before)
    assert (tmp_path / "e" / "model.safetensors").is_file()
    for path in tmp_path.rglob("*"):
        expected = (0o777 if path.is_dir() else 0o666) & ~mask
        assert path.stat().st_mode & 0o777 == expected, path


def test_temporary_names_cannot_be_foreseen(tmp_path, monkeypatch):
    """Two writes of one process have different ones, and none is written through a link."""
    from jaxdl.weights import files

    seen = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (seen.append(self.name), replace(self, to))[1])
    for _ in range(2):
        files.write_text(tmp_path / "x", "content")
    assert len(set(seen)) == 2
    assert not any(str(os.getpid()) in name for name in seen)
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "known")
    (tmp_path / ".x-known").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        files.write_text(tmp_path / "x", "content")
    assert not (tmp_path / "victim").exists()
