"""Several processes that compute one program together, as on several hosts: they give what one process gives."""

import collections
import shutil
import time

import jax
import numpy as np
import pytest
from command_line import call, jaxdl_command, read_csv, refused
from jax.sharding import NamedSharding, PartitionSpec
from several_hosts import Started, draw_photographs, free_port, saved

import jaxdl
from jaxdl.commands import hosts
from jaxdl.errors import InputError
from jaxdl.parallel.hosts import Process, check_seen, fetch

NET = "--model cnn --model-arguments features=[4] hidden=[8] --optimizer sgd --learning-rate 0.02 --batch-size 13"
READ = "--data photos --image-size 8 --stream always --workers 0 --allow near-duplicates"
MEMORY = "--data digits:0-2"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("hosts")
    draw_photographs(home)
    return home


def succeeded(started):
    """What process 0 printed; all processes have come to a good end, and the others said nothing."""
    told = started.wait()
    for code, *both in told:
        print(code, *both, sep="\n")  # where it failed
    assert [code for code, _, _ in told] == [0] * len(told)
    assert all(text == "" for _, *both in told[1:] for text in both)
    return told[0][1]


def far_apart(one, other):
    """The largest difference between two pytrees of arrays."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.abs(np.asarray(a, float) - np.asarray(b, float)).max()) for a, b in pairs)


def files_of(folder):
    """Files of a run but those of Orbax, whose names are random."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "variables" not in path.parts}


def same_checkpoint(one, other, within=1e-5):
    trained = [jaxdl.restore(path) for path in (one, other)]
    apart = far_apart(*(checkpoint.variables for checkpoint in trained))
    assert apart < within, apart
    for row, like in zip(*(checkpoint.history for checkpoint in trained), strict=True):
        assert row["train_loss"] == pytest.approx(like["train_loss"], abs=1e-5)
        assert row.get("test_loss") == pytest.approx(like.get("test_loss"), abs=1e-5)
    assert files_of(one) == files_of(other)
    return apart


def same_result(one, other):
    results = [jaxdl.load_result(path) for path in (one, other)]
    folds = [result.out_of_fold for result in results]
    np.testing.assert_array_equal(folds[0].index, folds[1].index)
    apart = [far_apart(folds[0].kept, folds[1].kept)]
    for row, like in zip(*(result.folds for result in results), strict=True):
        assert row["loss"] == pytest.approx(like["loss"], abs=1e-5)
        paths = [path / "folds" / str(row["fold"]) for path in (one, other)]
        apart.append(far_apart(*(jaxdl.restore(path).variables for path in paths)))
    assert max(apart) < 1e-5, apart
    assert files_of(one) == files_of(other)
    return max(apart)


@pytest.mark.parametrize(("count", "devices"), [(1, 1), (2, 2), (3, 4)])
@pytest.mark.parametrize("rows", [1, 4, 13, 24])
def test_processes_share_all_rows(count, devices, rows):
    processes = [Process(index, count, devices) for index in range(count)]
    assert np.concatenate([process.within(rows) for process in processes]).tolist() == list(range(rows))
    (share,) = {one.stop - one.start for one in (process.rows(rows) for process in processes)}
    assert share % devices == 0
    assert share * count - rows < count * devices


def test_arrays_are_fetched_by_one_program(caplog):
    """Which a training asks for again after each epoch that is better."""
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
    parts, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    compiled = []
    for number in range(3):
        tree = {"a": jax.device_put(np.arange(6.0) + number, parts)}
        with jax.log_compiles(), caplog.at_level("WARNING"):
            caplog.clear()
            np.testing.assert_array_equal(fetch(tree, whole)["a"], np.arange(6.0) + number)
        compiled.append(sum("Compiling" in record.getMessage() for record in caplog.records))
    assert compiled[0] >= 1
    assert compiled[1:] == [0, 0]


@pytest.mark.parametrize("given", [(2, 2, 1), (-1, 2, 1), (0, 1, 0)])
def test_a_process_that_cannot_be(given):
    with pytest.raises(InputError, match=f"index={given[0]}, count={given[1]}, devices={given[2]}"):
        Process(*given)


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("--process 0/2", "--coordinator ADDR and --process I/N go together"),
        ("--coordinator localhost:1 --process 2/2", "--process is '2/2'; expected 0/2 on the first host to 1/2"),
        ("--coordinator localhost:1 --process 0/1", "leave out --process and --coordinator"),
        ("--coordinator localhost:1 --process first", "--process is 'first'; expected I/N"),
        ("--coordinator localhost --process 0/2", "--coordinator is 'localhost'; expected HOST:PORT"),
        ("--coordinator one..host:1 --process 1/2", "--coordinator is 'one..host:1'; expected HOST:PORT"),
        ("--coordinator localhost:99999 --process 0/2", "--coordinator is 'localhost:99999'; expected HOST:PORT"),
        ("--coordinator localhost:0 --process 0/2", "a port is 1 to 65535"),
        ("--multihost --coordinator localhost:1 --process 0/2", "leave --multihost out"),
        ("--coordinator localhost:1 --process 0/2 --folds-of 0/2", "--folds-of is for machines that share nothing"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, how, named):
    assert named in refused(f"cross-validate --model mlp --data digits:0-1 --out {tmp_path / 'run'} {how}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("silent", "says"), [(0.1, True), (60.0, False)])
def test_a_process_that_waits_for_others_says_so_after_a_while(tmp_path, monkeypatch, silent, says):
    def waits(*_, **__):
        time.sleep(1)
        raise InputError("nobody came")

    monkeypatch.setattr(hosts, "SILENT", silent)
    monkeypatch.setattr(hosts, "start", waits)
    line = f"pretrain --model mlp --data digits:0-1 --out {tmp_path / 'run'} --coordinator there:18476 --process 1/2"
    code, _, err = call(line)
    *waiting, error = err.splitlines()
    assert (code, error) == (2, "jaxdl: error: nobody came")
    said = "process 1/2 of there:18476 waits for the others, for 300 s at most; start the same command on each host"
    assert waiting == [f"jaxdl: {said}"] * says


@pytest.mark.parametrize("option", ["--multihost", "--process 0/2", "--coordinator=there:1"])
def test_a_command_for_one_host_is_refused_by_name(tmp_path, option):
    said = refused(
        f"search --model mlp --data digits:0-1 --space learning_rate=0.1,1 --out {tmp_path / 'run'} {option}"
    )
    assert "search runs on one host" in said
    for name in ("pretrain", "finetune", "cross-validate", "predict"):
        assert name in said


def test_an_address_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in ("pretrain --model mlp --data digits:0-1 --epochs 1", "cross-validate --model mlp --data digits:0-1"):
        said = refused(f"{line} --out s3://bucket/run")
        assert "s3:/bucket/run" in said
        assert "expected a path of this machine, such as one on a network file system" in said
    assert not list(tmp_path.iterdir())
    jaxdl_command("pretrain --model mlp --data digits:0-1 --epochs 1 --out run")  # as it says


def test_two_processes_are_one(home):
    """Each example is decoded by one of them, one of them writes and prints, and what it writes is the same."""
    line = f"finetune {NET} {READ} --epochs 2 --validation-fraction 0.3 --out"
    alone, both = Started(home, f"{line} by-1", devices=1), Started(home, f"{line} by-2", 2)
    said = succeeded(alone), succeeded(both)
    assert said[0].replace("by-1", "by-2") == said[1]
    print("parameters differ by", same_checkpoint(home / "by-1", home / "by-2"))
    decoded, parts = alone.decoded()[0], both.decoded()
    # no example more often than by one process, which reads those held out into memory to measure them at the end
    assert decoded - parts[0] - parts[1] == collections.Counter()
    assert sorted((parts[0] + parts[1] - decoded).values()) == [1] * 9
    assert min(map(len, parts)) > 0
    assert sum(decoded.values()) >= 3 * 27  # two epochs, and each to be measured


@pytest.mark.slow
def test_folds_and_predictions_of_four_processes(home):
    line = f"cross-validate {NET} {MEMORY} --epochs 2 --folds 2 --fold-strategy loop --keep-models always --out"
    succeeded(Started(home, f"{line} folds-by-1", devices=1))
    succeeded(Started(home, f"{line} folds-by-4", 4, 1))
    print("parameters and predictions differ by", same_result(home / "folds-by-1", home / "folds-by-4"))

    ask = "predict --checkpoint folds-by-1/folds/0 --data digits:0-2 --batch-size 5 --out"
    one, four = Started(home, f"{ask} by-1.csv", devices=1), Started(home, f"{ask} by-4.csv", 4, 1)
    assert succeeded(one).splitlines()[2:] == succeeded(four).splitlines()[2:]
    rows = [read_csv(home / f"by-{count}.csv") for count in (1, 4)]
    for row, like in zip(*rows, strict=True):
        assert row.keys() == like.keys()
        for name in row:
            if name.startswith("p:"):
                assert float(row[name]) == pytest.approx(float(like[name]), abs=1e-5)
            elif name != "confidence":
                assert row[name] == like[name]


@pytest.mark.slow
def test_each_of_four_processes_decodes_its_own_rows(home):
    line = f"finetune {NET} {READ} --epochs 1 --out"
    alone, four = Started(home, f"{line} read-one", devices=1), Started(home, f"{line} read-four", 4, 1)
    succeeded(alone), succeeded(four)
    same_checkpoint(home / "read-one", home / "read-four")
    assert sum(four.decoded(), collections.Counter()) == alone.decoded()[0]
    out = "--checkpoint read-one --data photos --batch-size 6 --out"
    asked = Started(home, f"predict {out} by-four.csv", 4, 1)
    succeeded(asked)
    parts = asked.decoded()
    assert set(sum(parts, collections.Counter()).values()) == {1}
    assert sum(map(len, parts)) == 27


@pytest.mark.slow
def test_frozen_stages_are_run_by_each_process_over_its_own_rows(home):
    if not (home / "start").exists():
        succeeded(Started(home, f"pretrain {NET} {MEMORY} --epochs 1 --out start", devices=1))
    line = "finetune --init start --data digits:3-5 --freeze-through body --optimizer sgd --epochs 2 --out"
    succeeded(Started(home, f"{line} head-one", devices=1))
    succeeded(Started(home, f"{line} head-two", 2))
    same_checkpoint(home / "head-one", home / "head-two")


# The larger arrays are divided over all devices: each process saves its own part of them.
WIDE = "--model mlp --model-arguments hidden=[256] --parallel fsdp --optimizer sgd --learning-rate 0.02"
TRAIN = f"pretrain {WIDE} {MEMORY} --epochs 20 --save-every 0.3 --validation-fraction 0.2 --ema 0.9 --out"


@pytest.fixture(scope="module")
def killed(home):
    """A run of two processes that were killed after a save, and when they were begun."""
    succeeded(Started(home, f"{TRAIN} whole", devices=1))
    started = Started(home, f"{TRAIN} killed", 2)
    started.wait_for_a_save(home / "killed")
    started.kill()
    save = home / "killed" / "state" / "training" / str(saved(home / "killed")[-1])
    parts = [save / "arrays" / f"ocdbt.process_{index}" / "d" for index in (0, 1)]
    assert min(sum(file.stat().st_size for file in part.iterdir()) for part in parts) > 2 * 64 * 256 * 4 / 2
    return home / "killed"


@pytest.mark.slow
@pytest.mark.parametrize(("count", "devices"), [(2, 2), (1, 1), (1, 4)])
def test_a_killed_run_goes_on_with_any_number_of_processes(home, killed, count, devices):
    out = f"again-{count}-{devices}"
    shutil.copytree(killed, home / out)
    begin = time.monotonic()
    started = Started(home, f"{TRAIN} {out}", count, devices)
    succeeded(started)
    assert "going on with the run" in started.said()[1]
    print(f"{count} processes: {time.monotonic() - begin:.1f} s; parameters differ by", end=" ")
    print(same_checkpoint(home / "whole", home / out))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--parallel pmap", "several hosts divide the batches of one training by jit; pmap"),
        ("--fold-strategy vmap", "'vmap' runs folds at once on the devices of one process"),
        ("--devices 2", "on several hosts all of their 4 devices are used: leave --devices out"),
    ],
)
def test_what_is_for_one_process_is_refused_by_name(home, options, named):
    """Each says what to leave out; without it the other tests run."""
    line = f"cross-validate {NET} {MEMORY} --epochs 1 --folds 2 --fold-strategy loop --out refused"
    line = line.replace("--fold-strategy loop", options) if "strategy" in options else f"{line} {options}"
    for index, (code, _, err) in enumerate(Started(home, line, 2).wait()):
        assert code == 2
        assert named in " ".join(err.split())
        assert f"jaxdl, process {index} of 2: error: " in err
        assert "Traceback" not in err
    assert not (home / "refused").exists()


@pytest.mark.slow
def test_processes_that_do_not_meet(home):
    """Which says what to do: the first test of two processes follows it."""
    line = f"pretrain {NET} {MEMORY} --epochs 1 --out never"
    late = Started(home, line, 2, reach=2, told=lambda index: f"--coordinator 127.0.0.1:9 --process {index + 1}/3")
    for index, (code, out, err) in enumerate(late.wait()):
        assert (code, out) == (2, "")
        assert f"process {index + 1} of 3 finds no process 0 at '127.0.0.1:9' within 2 s" in err
    alone = f"--coordinator 127.0.0.1:{free_port()} --process 0/2"
    ((code, _, err),) = Started(home, f"{line} {alone}", reach=3).wait()
    assert code == 2
    assert "did not all come within 3 s" in err
    assert not (home / "never").exists()


def test_a_folder_that_not_all_reach(tmp_path):
    written = tmp_path / "run.json"
    with pytest.raises(InputError, match=rf"process 0 does not see '{written}'.*--out must be one folder"):
        check_seen(written, "--out")
    written.touch()
    check_seen(written, "--out")


@pytest.mark.slow
def test_processes_whose_folders_are_not_one(home):
    """Which say what to give in its place; with that the other tests run."""
    port, line = free_port(), f"pretrain {NET} {MEMORY} --epochs 1"
    apart = Started(
        home, line, 2, told=lambda index: f"--coordinator 127.0.0.1:{port} --process {index}/2 --out own-{index}"
    )
    for index, (code, out, err) in enumerate(apart.wait()):
        print(code, out, err)
        assert code == 2
        assert not out or index == 0
        (said,) = [one for one in err.splitlines() if "error" in one]
        named = f"process 1 does not see '{home / 'own-0' / 'run.json'}', which process 0 wrote: on several hosts --out"
        assert said.startswith(f"jaxdl, process {index} of 2: error: {named} must be one folder that all of them reach")
        assert "Traceback" not in err
    assert not (home / "own-0").exists()
    assert not (home / "own-1").exists()


@pytest.mark.slow
def test_no_other_host(home):
    code, _, err = Started(home, f"pretrain {NET} {MEMORY} --epochs 1 --multihost --out never").wait()[0]
    assert code == 2
    assert "this machine does not say which others it belongs to" in err
    assert "--coordinator HOST:PORT --process I/N" in err
