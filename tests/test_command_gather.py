"""Folds trained in parts, by machines that share nothing, and gathered: the result of one machine."""

import json
import os
import re
import shutil
import signal
from unittest.mock import Mock

import numpy as np
import pytest
from command_line import call, jaxdl_command, refused

import jaxdl
from jaxdl.commands.console import Display
from jaxdl.report.run_page import write_run_report
from jaxdl.tasks.classification import Classification
from jaxdl.tasks.examples import load_examples
from jaxdl.validation.result import load_result
from jaxdl.weights.checkpoint import fingerprint

TABLE = (
    "cross-validate --model mlp --model-arguments hidden=[4] dropout=0.2 --data table.npz --epochs 3 --folds 5 "
    "--batch-size 16 --fold-strategy loop"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A whole run, and both parts of the same."""
    home, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    x = random.normal(size=(60, 4)).astype(np.float32)
    np.savez(home / "table.npz", x=x, y=(x[:, 0] + random.normal(size=60) > 0).astype(int), groups=np.arange(60) // 3)
    np.savez(home / "other.npz", x=x + 1, y=(x[:, 0] > 0).astype(int), groups=np.arange(60) // 3)
    os.chdir(home)
    jaxdl_command(f"{TABLE} --out whole --no-report")
    for number in range(2):
        jaxdl_command(f"{TABLE} --out part-{number} --folds-of {number}/2")
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


def without_seconds(held):
    if isinstance(held, dict):
        return {key: without_seconds(value) for key, value in held.items() if key != "seconds"}
    return [without_seconds(one) for one in held] if isinstance(held, list) else held


def read(path):
    return json.loads(path.read_text())


def assert_same(whole, gathered):
    """Bit for bit, but for the seconds and the command line."""
    assert without_seconds(read(whole / "result.json")) == without_seconds(read(gathered / "result.json"))
    assert (whole / "metrics.jsonl").read_text() == (gathered / "metrics.jsonl").read_text()
    one, other = (np.load(path / "out_of_fold.npz") for path in (whole, gathered))
    assert one.files == other.files
    for name in one.files:
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name])
    assert (whole / "split.npz").read_bytes() == (gathered / "split.npz").read_bytes()
    assert (whole / "folds").exists() == (gathered / "folds").exists()
    for folder in sorted((whole / "folds").glob("*")):
        networks = [jaxdl.restore(path / "folds" / folder.name) for path in (whole, gathered)]
        assert fingerprint(networks[0].variables) == fingerprint(networks[1].variables)
        assert (folder / "card.json").read_text() == (gathered / "folds" / folder.name / "card.json").read_text()
    told = [read(path / "run.json") for path in (whole, gathered)]
    assert [one | {"command": None} for one in told[:1]] == [one | {"command": None} for one in told[1:]]


def test_gathered_parts_are_the_whole_run(home, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxdl.report.inspect.time.perf_counter", lambda: 0.0)  # a page times the stages when written
    out, read_once = tmp_path / "gathered", Mock(wraps=load_examples)
    monkeypatch.setattr("jaxdl.report.run.load_examples", read_once)
    said = jaxdl_command(f"gather part-1 part-0 --out {out}")  # in any order
    read_once.assert_called_once()
    assert_same(home / "whole", out)
    result = load_result(out)
    assert result.seconds == pytest.approx(
        sum(read(home / f"part-{i}" / "part.json")["result"]["seconds"] for i in (0, 1))
    )
    assert f"results and report.html in {out}" in said
    assert [f"fold {fold}: " in said for fold in range(5)] == [True] * 5
    # the page, had both taken the same time
    copy = shutil.copytree(home / "whole", tmp_path / "copy")
    shutil.copyfile(out / "result.json", copy / "result.json")
    shutil.copyfile(out / "run.json", copy / "run.json")
    write_run_report(copy)
    assert (copy / "report.html").read_text() == (out / "report.html").read_text()
    # it is the run of the whole command
    code, said, err = call(f"{TABLE} --out {out}")
    assert (code, err) == (0, "")
    assert "is finished; its results are there" in said
    words = read(out / "run.json")["command"]
    assert "--folds-of" not in words
    assert words[-2:] == ["--out", str(out)]


def test_a_part_holds_its_folds_and_is_told_again(home):
    said = jaxdl_command(f"{TABLE} --out part-1 --folds-of 1/2")
    assert "is finished; its results are there" in said
    assert ["fold 1: " in said, "fold 3: " in said, "fold 0: " in said] == [True, True, False]
    assert "--folds-of 0/2" in said
    assert sorted(path.name for path in (home / "part-1" / "folds").iterdir()) == ["1", "3"]
    assert not (home / "part-1" / "result.json").exists()
    for line in ("report part-1", "compare part-1 whole"):
        assert "jaxdl gather joins all parts" in refused(line)


@pytest.mark.parametrize(
    "options",
    [
        "--model mlp --splitter time-series --folds 4 --data timed.npz --metric mae --interval corrected-t",
        pytest.param("--init parent --freeze-through layer1 --metric balanced_accuracy --early-stopping 1 --ema 0.5 "
                     "--data grouped.npz --folds 4 --allow parent", marks=pytest.mark.slow),
        pytest.param("--model cnn --model-arguments features=[4] --augment crop --data digits:0-1 --splitter holdout "
                     "--folds 3 --keep-models never", marks=pytest.mark.slow),
        pytest.param("--model mlp --splitter monte-carlo --folds 5 --data many.npz", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_other_tasks_splits_and_options(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    x, y = random.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    np.savez("timed.npz", x=x, y=x[:, 1] + random.normal(size=60).astype(np.float32), times=np.arange(60.0))
    np.savez("grouped.npz", x=x, y=y, groups=np.arange(60) // 3)
    np.savez("many.npz", x=x, y=random.integers(0, 2, (60, 3)))
    if "parent" in options:
        jaxdl_command("pretrain --model mlp --data grouped.npz --epochs 1 --out parent")
    machines = 1 if "holdout" in options else 2
    line = f"cross-validate {options} --epochs 2 --fold-strategy loop --no-report"
    jaxdl_command(f"{line} --out whole")
    for number in range(machines):
        jaxdl_command(f"{line} --out part-{number} --folds-of {number}/{machines}")
    jaxdl_command(f"gather {' '.join(f'part-{i}' for i in range(machines))} --out gathered --no-report")
    assert_same(tmp_path / "whole", tmp_path / "gathered")


@pytest.mark.slow
def test_parts_by_other_strategies_agree(home, tmp_path):
    line = TABLE.replace("loop", "vmap")
    for number in range(2):
        jaxdl_command(f"{line} --out {tmp_path / str(number)} --folds-of {number}/2")
    jaxdl_command(f"gather {tmp_path / '0'} {tmp_path / '1'} --out {tmp_path / 'gathered'} --no-report")
    whole, gathered = load_result(home / "whole"), load_result(tmp_path / "gathered")
    np.testing.assert_array_equal(whole.out_of_fold.index, gathered.out_of_fold.index)
    np.testing.assert_allclose(whole.out_of_fold.kept, gathered.out_of_fold.kept, atol=1e-5)
    order = [(row["epoch"], row["fold"]) for row in gathered.curves]
    assert order == sorted(order)  # as one machine orders them that trains folds at once


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_a_part_that_was_stopped_goes_on(home, tmp_path, monkeypatch, number):
    part, line = tmp_path / "part", f"{TABLE} --folds-of 1/2 --save-every 0 --out {tmp_path / 'part'}"
    rows, take_note = [], Display.row

    def row(display, told):
        take_note(display, told)
        rows.append(told)
        if len(rows) == 4:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Display, "row", row)
        assert call(line)[0] == 128 + number
    assert "is not finished; give its command again" in refused(f"gather part-0 {part} --out {tmp_path / 'all'}")
    assert "going on with the run" in call(line)[2]
    jaxdl_command(f"gather part-0 {part} --out {tmp_path / 'all'} --no-report")
    assert_same(home / "whole", tmp_path / "all")


def test_trees_that_one_part_leaves_out_are_left_out_of_all(home, tmp_path, monkeypatch):
    """A task may have none for some folds: one machine then has none at all, and so has what is gathered."""
    boosted, held = Classification.boosted, load_result(home / "whole").out_of_fold
    fold = np.load(home / "table.npz")["x"][held.index[held.fold == 3]]

    def some(task, rows, targets, asked):
        return None if np.array_equal(asked, fold) else boosted(task, rows, targets, asked)

    monkeypatch.setattr(Classification, "boosted", some)
    jaxdl_command(f"{TABLE} --out {tmp_path / 'whole'} --no-report")
    jaxdl_command(f"{TABLE} --out {tmp_path / 'part-1'} --folds-of 1/2")
    jaxdl_command(f"gather part-0 {tmp_path / 'part-1'} --out {tmp_path / 'all'} --no-report")
    assert_same(tmp_path / "whole", tmp_path / "all")
    assert "there are none for classification" in read(tmp_path / "all" / "result.json")["baselines"][1]["skipped"]


# What is refused


def changed(home, tmp_path, name, change):
    """A copy of part 1 whose part.json says something else."""
    copy = shutil.copytree(home / "part-1", tmp_path / name)
    told = read(copy / "part.json")
    change(told)
    (copy / "part.json").write_text(json.dumps(told))
    return copy


def test_parts_of_different_runs_are_refused(tmp_path):
    for number, (options, said) in enumerate(
        [
            ("--data other.npz", "data.sha256: "),
            ("--learning-rate 0.5", "plan.learning_rate: 0.001 in 'part-0', 0.5 in "),
            ("--seed 3", "split.sha256: "),
        ]
    ):
        part = tmp_path / str(number)
        jaxdl_command(f"{TABLE} {options} --folds-of 1/2 --out {part}")
        code, _, err = call(f"gather part-0 {part} --out {tmp_path / 'all'}")
        assert (code, f"'part-0' and '{part}' are parts of different runs" in err) == (2, True), err
        assert f"\n  {said}" in err
    assert not (tmp_path / "all").exists()


def test_other_versions_are_refused_and_other_devices_are_said(home, tmp_path):
    part = changed(home, tmp_path, "old", lambda told: told["environment"]["packages"].update(jax="0.1"))
    code, _, err = call(f"gather part-0 {part} --out {tmp_path / 'all'}")
    assert code == 2
    assert "were made by different versions:\n  packages.jax: " in err
    assert "--folds-of 1/2" in err
    part = changed(home, tmp_path, "gpu", lambda told: told["environment"].update(backend="gpu"))
    with pytest.warns(UserWarning, match="ran on other devices.*backend: cpu there, gpu here"):
        jaxdl_command(f"gather part-0 {part} --out {tmp_path / 'all'} --no-report")


def test_missing_and_doubled_parts_are_named(home, tmp_path):
    out = f"--out {tmp_path / 'all'}"
    said = refused(f"gather part-0 {out}")
    assert "part 1/2 is missing; run the same command with --folds-of 1/2" in said
    shutil.copytree(home / "part-0", tmp_path / "copy")
    assert f"'part-0' and '{tmp_path / 'copy'}' are both part 0/2" in refused(
        f"gather part-0 {tmp_path / 'copy'} {out}"
    )
    jaxdl_command(f"{TABLE} --folds-of 2/3 --out {tmp_path / 'third'}")
    said = refused(f"gather part-0 {tmp_path / 'third'} {out}")
    assert "'part-0' is part 0/2 and" in said
    assert "is part 2/3" in said
    assert "parts 0/3, 1/3 are missing; run the same command with --folds-of 0/3 and --folds-of 1/3" in refused(
        f"gather {tmp_path / 'third'} {out}"
    )
    shutil.rmtree(shutil.copytree(home / "part-1", tmp_path / "lost") / "folds" / "3")
    assert f"'{tmp_path / 'lost' / 'folds' / '3'}' is missing" in refused(f"gather part-0 {tmp_path / 'lost'} {out}")
    assert not (tmp_path / "all").exists()


@pytest.mark.slow
def test_what_a_message_advises_helps(home, tmp_path):
    """The parts that it names are run, and then all can be gathered; so is the division that it names."""
    jaxdl_command(f"{TABLE} --folds-of 2/3 --out {tmp_path / '2'}")
    said = refused(f"gather {tmp_path / '2'} --out {tmp_path / 'all'}")
    shares = re.findall(r"--folds-of (\d)/3", said)
    assert shares == ["0", "1"]
    for number in shares:
        jaxdl_command(f"{TABLE} --folds-of {number}/3 --out {tmp_path / number}")
    jaxdl_command(f"gather {tmp_path / '2'} {tmp_path / '0'} {tmp_path / '1'} --out {tmp_path / 'all'} --no-report")
    assert_same(home / "whole", tmp_path / "all")
    said = refused(f"{TABLE} --out {tmp_path / 'part'} --folds-of 0/6")
    jaxdl_command(f"{TABLE} --out {tmp_path / 'part'} --folds-of {re.search(r'such as (0/5)', said)[1]}")


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ("part-0 whole", "'whole' is a whole result, not a part"),
        ("part-0 nowhere", "there is no folder 'nowhere'"),
        ("part-0 whole/folds", "'whole/folds' is no part of a cross-validation"),
        ("part-0 part-0", "a folder is named twice"),
        ("", "no folders to gather"),
    ],
)
def test_what_is_no_part_is_named(runs, said):
    assert said in refused(f"gather {runs} --out all")


def test_a_damaged_part_is_named(home, tmp_path):
    for file in ("part.json", "baselines.npz", "out_of_fold.npz"):
        copy = shutil.copytree(home / "part-1", tmp_path / f"damaged-{file}")
        (copy / file).write_bytes((copy / file).read_bytes()[:-40])
        assert f"{file}' is damaged" in refused(f"gather part-0 {copy} --out {tmp_path / 'all'}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("2/2", "expected the number of a machine from 0 and of all: 0/2 to 1/2"),
        ("1", "expected I/N such as 0/4"),
        ("0/0", "0/2 and 1/2"),
        ("0/6", "there are 5 folds: a machine would have none; expected at most 5 machines"),
        ("0/2 --interval nested", "leave --folds-of out"),
        ("0/2 --folds 1", "at least 2"),
    ],
)
def test_shares_that_cannot_be_are_refused(tmp_path, given, said):
    assert said in refused(f"{TABLE} --out {tmp_path / 'part'} --folds-of {given}")
    assert os.listdir(tmp_path) == []


def test_the_option_is_said_to_be_of_cross_validate_alone():
    assert "it is an option of jaxdl cross-validate" in refused("search --folds-of 0/2 --data table.npz --out x")


def test_one_part_alone_is_all_of_it(home, tmp_path):
    """What is told of it names no others, and works as it stands."""
    said = jaxdl_command(f"{TABLE} --folds-of 0/1 --out {tmp_path / 'part'}")
    assert "the others" not in said
    assert "OTHER-PARTS" not in said
    advised = re.search(r"jaxdl (gather .* --out )RUN", said)[1]
    jaxdl_command(f"{advised}{tmp_path / 'all'} --no-report")
    assert_same(home / "whole", tmp_path / "all")
