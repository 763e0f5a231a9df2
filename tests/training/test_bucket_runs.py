"""Runs in a bucket: cut off, killed and taken over as those of a file system, with the same bits at the end."""

import itertools
import json
import time

import numpy as np
import pytest
from command_line import jaxdl_command, refused
from several_hosts import Started

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.training import lease
from jaxdl.training.execution import Execution
from jaxdl.training.lease import Lease
from jaxdl.training.lock import lock, unlock
from jaxdl.training.resume import RunFolder, set_aside
from jaxdl.weights.buckets import place_of
from jaxdl.weights.checkpoint import fingerprint

SOURCE = data.subset(data.digits([0, 1]), np.arange(0, 300, 4))
MODEL = jaxdl.create("mlp", 2, hidden=(4,))
PLAN = jaxdl.Plan(epochs=2, batch_size=16, early_stopping=1)
MLP = "pretrain --model mlp --model-arguments hidden=[4] --data digits:0-1"


@pytest.fixture
def run(bucket, monkeypatch):
    """A place for a run; who is silent is soon gone."""
    monkeypatch.setattr(lease, "RENEW", 0.05)
    monkeypatch.setattr(lease, "LOST", 0.5)
    return place_of(f"gs://{bucket}/run")


def cross_validate(work=None):
    execution = Execution(keep_models=True, fold_strategy="loop", work=work)
    return jaxdl.cross_validate(MODEL, SOURCE, PLAN, folds=2, execution=execution)


def same_bits(one, other):
    return fingerprint(one.variables) == fingerprint(other.variables)


def cut_off_after(store, writes, patch):
    """From so many writes on the bucket answers no more, as if the process were killed."""
    left = itertools.count(writes, -1)
    patch.setattr(store, "refuse", lambda method, _: 403 if method != "GET" and next(left) <= 0 else None)


def test_a_run_that_is_cut_off_anywhere_goes_on_from_there(run, cloud_storage, monkeypatch):
    whole, result, cuts, allowed = cross_validate(), None, 0, 3
    while result is None:
        work = RunFolder(str(run), save_every=0.3)
        with monkeypatch.context() as patch:
            cut_off_after(cloud_storage, allowed, patch)
            try:
                result = cross_validate(work)
            except InputError:
                cuts, allowed = cuts + 1, allowed + 61
            finally:
                work.release()
        assert cuts < 50
    print(f"{cuts} cuts")
    assert cuts >= 2
    np.testing.assert_array_equal(result.out_of_fold.kept, whole.out_of_fold.kept)
    assert all(map(same_bits, result.models, whole.models))


@pytest.mark.slow
def test_results_that_were_being_placed_are_placed_again(run, tmp_path, cloud_storage, monkeypatch):
    """After each write: the file that says that all is there comes last, and until then the state is kept."""
    work, writes = RunFolder(run), itertools.count(1)
    work.claim({}, {})
    work.note("kept", [1, 2])
    for count in writes:
        made = work.fresh("result")
        (made / "below").mkdir(parents=True)
        for name in ("below/a", "card.json", "b.json", "c"):
            (made / name).write_text(name)
        with monkeypatch.context() as patch:
            cut_off_after(cloud_storage, count, patch)
            try:
                work.place(made, last="card.json")
                break
            except InputError:
                assert not (run / "card.json").exists()
                assert RunFolder(run).recall("kept", list) == [1, 2]
    assert count > 3
    work.finish()
    assert {str(p.relative_to(run)) for p in run.glob("*/*")} == {"below/a"}
    assert sorted(p.name for p in run.iterdir()) == ["b.json", "below", "c", "card.json", "run.json"]
    assert RunFolder(run).known["finished"] is True


def test_a_part_that_was_not_sent_whole_is_none(run, cloud_storage, monkeypatch):
    work = RunFolder(run)

    def send(name):
        with work.finish_part("first") as folder:
            (folder / name).write_text("[]")

    with monkeypatch.context() as patch:
        cut_off_after(cloud_storage, 2, patch)
        with pytest.raises(InputError, match=f"may not do that in the bucket 'gs://{run.bucket}'"):
            send("made.json")
    assert work.finished_part("first") is None
    send("whole.json")
    assert [p.name for p in work.finished_part("first").iterdir()] == ["whole.json"]


def test_one_process_at_a_time_works_in_a_folder(run):
    first = Lease(run)
    with pytest.raises(InputError, match=rf"process \d+ on .* is working in '{run}'"), pytest.warns(match="claimed"):
        Lease(run)
    first.check()
    first.release()
    assert not run.exists()
    second = Lease(run)
    second.release()
    second.release()


def test_who_is_silent_is_taken_over_and_writes_no_more(run, monkeypatch):
    monkeypatch.setattr(lease, "RENEW", 1e9)  # as if the machine slept
    silent = Lease(run)
    with pytest.warns(UserWarning, match="to see whether it lives"):
        other = Lease(run)
    monkeypatch.setattr(lease, "RENEW", 0)
    with pytest.raises(InputError, match=r"has taken over .*name another --out"):
        silent.check()
    silent.release()
    assert (run / ".lock").exists()  # it is the other's
    other.check()
    other._generation -= 1  # as if the answer to its last write was lost on the way
    other.check()
    other.release()
    assert not run.exists()


def test_what_a_run_writes_it_writes_only_while_it_holds_the_folder(run, monkeypatch):
    work = RunFolder(run)
    work.claim({}, {})
    assert lock(run / "state" / "part") is False  # a part of the run, whose folder is held
    held = (run / ".lock").read_bytes()
    (run / ".lock").write_bytes(b"process 7 on another machine\n")
    time.sleep(0.2)
    for write in (
        lambda: work.finish(),
        lambda: work.note("kept", [1, 2]),
        lambda: work.place_folder(run, "best"),
        lambda: work.part("training").save(1, {"a": np.ones(2)}, {}),
    ):
        with pytest.raises(InputError, match="process 7 on another machine has taken over"):
            write()
    work.abandon()  # what is there is the other's
    assert held != (run / ".lock").read_bytes()
    assert json.loads((run / "run.json").read_text())["finished"] is False
    unlock(run)


def test_a_run_is_moved_aside(run):
    for name in ("run.json", "state/training/1/d"):
        (run / name).write_text(name)
    (run.with_name("run.old-1") / "run.json").write_text("older")
    aside = set_aside(str(run))
    assert aside == run.with_name("run.old-2")
    assert (aside / "state" / "training" / "1" / "d").read_text() == "state/training/1/d"
    assert not run.exists()
    assert set_aside(run) is None


@pytest.mark.slow
def test_a_training_does_not_wait_for_a_save_to_arrive(run, cloud_storage, monkeypatch):
    """Each of its many requests takes 50 ms here; the first save also waits until it is known who is there."""
    monkeypatch.setattr(cloud_storage, "delay", 0.05)
    saves, waits, whole = RunFolder(run).part("training"), [], []
    for number in range(4):
        before = time.perf_counter(), len(cloud_storage.requests)
        saves.save(number, {f"array{i}": np.full((1000, 10), i) for i in range(30)}, {})
        waits.append(time.perf_counter() - before[0])
        saves._manager.wait_until_finished()
        whole.append(time.perf_counter() - before[0])
    requests = len(cloud_storage.requests) - before[1]
    saves.close()
    print(f"{requests} requests; the training waits for {waits} of {whole} seconds")
    assert np.median(waits[1:]) < np.median(whole[1:]) / 5
    assert requests < 250


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--out gs://no-such-bucket/run", "there is no bucket 'gs://no-such-bucket'"),
        ("--out gs://some-bucket", "expected gs://BUCKET/FOLDER"),
        ("--out s3://some-bucket/run", "a folder in a bucket of Google's, gs://BUCKET/FOLDER"),
        ("--out gs://BUCKET/run --tensorboard", "--tensorboard appends to files, which a bucket cannot"),
        ("--out gs://BUCKET/run --validation gs://BUCKET/photos", "gcloud storage cp --recursive"),
        ("--out gs://BUCKET/taken", "'gs://BUCKET/taken' is there already; it was left as it is"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(run, cloud_storage, line, said):
    cloud_storage.buckets[run.bucket]["taken/file"] = (1, b"")
    assert said.replace("BUCKET/taken", f"{run.bucket}/taken") in refused(
        f"{MLP} --epochs 1 {line.replace('BUCKET', run.bucket)}"
    )
    assert set(cloud_storage.buckets[run.bucket]) == {"taken/file"}


@pytest.mark.slow
def test_commands_read_and_write_a_bucket_as_a_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    again = f"{MLP} --epochs 2 --validation-fraction 0.2 --early-stopping 1 --out"
    here, there = jaxdl_command(f"{again} run"), jaxdl_command(f"{again} {run}")
    assert there.replace(str(run), "X") == here.replace(str(tmp_path / "run"), "X")
    for name in (".", "best"):
        assert same_bits(jaxdl.restore(run / name), jaxdl.restore(tmp_path / "run" / name))
    written = {name for name in run.names() if "variables" not in name}
    local = {p.relative_to(tmp_path / "run") for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert written == {str(p) for p in local if "variables" not in p.parts}
    assert "is finished; its results are there" in jaxdl_command(f"{again} {run}")
    assert f"report in {run}/report.html" in jaxdl_command(f"report {run}")
    assert "<html" in (run / "report.html").read_text()
    assert f"checkpoint {run}" in jaxdl_command(f"inspect {run}")
    jaxdl_command(f"predict --checkpoint {run} --data digits:0-1 --out p.csv")
    jaxdl_command(f"{again} {run} --restart")
    assert same_bits(jaxdl.restore(run), jaxdl.restore(run.with_name("run.old-1")))

    fold = f"cross-validate --init {run} --data digits:2-3 --folds 2 --epochs 1 --keep-models always --out {run}-cv"
    jaxdl_command(fold)
    assert json.loads((run.with_name("run-cv") / "run.json").read_text())["init"] == str(run)
    jaxdl_command(f"ensemble {run}-cv --out {run}-ens")
    jaxdl_command(f"predict --checkpoint {run}-ens --data digits:2-3 --out-of-fold --out q.csv")
    jaxdl_command(fold.replace("-cv", "-again").replace("--folds 2", f"--splitter {run}-cv"))
    jaxdl_command(f"compare {run}-cv {run}-again --test bootstrap")
    for part in range(2):
        jaxdl_command(f"{fold}-{part} --folds-of {part}/2")
    jaxdl_command(f"gather {run}-cv-0 {run}-cv-1 --out gathered")
    results = [jaxdl.load_result(place) for place in ("gathered", f"{run}-cv")]
    np.testing.assert_allclose(*(result.out_of_fold.kept for result in results), atol=1e-6)


LINE = (
    "pretrain --model cnn --model-arguments features=[4] hidden=[8] --data digits:0-2 --optimizer sgd --epochs 5 "
    "--batch-size 200 --learning-rate 0.02 --validation-fraction 0.3 --save-every 0 --out"
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What a single process that nothing stopped makes of it on two devices."""
    home = tmp_path_factory.mktemp("alone")
    started = Started(home, f"{LINE} alone", devices=2)
    assert started.wait()[0][0] == 0, started.said()
    return jaxdl.restore(home / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_killed_processes_go_on_from_the_bucket(bucket, tmp_path, alone, count):
    """As many as write one run together."""
    run = place_of(f"gs://{bucket}/run")
    started = Started(tmp_path, f"{LINE} {run}", count, 2 // count)
    started.wait_for_a_save(run)
    started.kill()
    last = Started(tmp_path, f"{LINE} {run}", count, 2 // count)
    told = last.wait()
    assert [code for code, *_ in told] == [0] * count, told
    assert "going on with the run" in told[0][2]
    assert "to see whether it lives" in told[0][2]
    for array, like in zip(*map(np_leaves, (jaxdl.restore(run), alone)), strict=True):
        np.testing.assert_allclose(array, like, atol=1e-5)


def np_leaves(checkpoint):
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(checkpoint.variables)]
