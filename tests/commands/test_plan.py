"""jaxdl plan: what a training comes to on chips that are not here."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from command_line import jaxdl_command, refused

from jaxdl import cli
from jaxdl.commands.help import options_of
from jaxdl.parallel.topology import ENVIRONMENT
from jaxdl.report.planned import money, of_peak
from jaxdl.validation.planning import elsewhere

KEYS = {"fits", "bytes_per_chip", "flops", "collectives", "step_seconds", "hours", "cost", "largest_batch", "folds"}
MLP = "--data digits --model mlp --model-arguments hidden=[32]"
needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler: pip install 'jax[tpu]'"
)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """As the process of its own is, in which the program would plan otherwise."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("command", ["pretrain", "finetune", "cross-validate"])
def test_the_options_of_these_commands_are_options_of_a_plan(command):
    assert options_of(cli.COMMANDS[command]).keys() <= options_of(cli.COMMANDS["plan"]).keys()


def plans(line, tmp_path):
    file = tmp_path / "plan.json"
    said = jaxdl_command(f"plan {line} --json {shlex.quote(str(file))}")
    return json.loads(file.read_text()), said


def test_gpus_are_told_by_a_roofline(tmp_path):
    """By hand: 64 x 32 and 32 x 10 kernels; 57 steps of 32 examples in an epoch."""
    (one, two), said = plans(
        f"pretrain {MLP} --out run --epochs 3 --on h100x8 l4 --price 2 0.5 --batch-size 32", tmp_path
    )
    assert one.keys() >= KEYS
    rows, parameters = one["batch"], 64 * 32 + 32 + 32 * 10 + 10
    assert rows == 32
    # the gradient of the pictures is not needed
    assert one["flops"] == 2 * rows * (2 * 64 * 32 + 3 * 32 * 10)
    assert one["collectives"]["all-reduce"]["bytes"] == 4 * parameters
    assert two["collectives"] == {}
    assert one["bytes_per_chip"]["parameters"] == 4 * parameters
    assert one["bytes_per_chip"]["optimizer"] >= 8 * parameters
    assert (one["steps"], one["epochs"], one["trainings"], one["folds"]) == (57, 3, 1, None)
    for told, chips, price in ((one, 8, 2), (two, 1, 0.5)):
        assert told["hours"] == pytest.approx(3 * 57 * told["step_seconds"] / 3600)
        assert told["cost"] == pytest.approx(told["hours"] * chips * price)
        assert "roofline" in told["basis"]
    assert "Not counted" in said
    assert not re.search(r"[ (]0(\.0)? ?%", said)  # a toy's share of the peak, too, has a digit
    assert not (tmp_path / "run").exists()


def test_smaller_numbers_are_advised_where_they_help(tmp_path):
    ((told,), _) = plans(f"pretrain {MLP} --on l4", tmp_path)
    assert any(said.startswith("--precision bfloat16 ") for said in told["advice"])
    (tmp_path / "half").mkdir()
    ((half,), _) = plans(f"pretrain {MLP} --on l4 --precision bfloat16", tmp_path / "half")
    assert half["step_seconds"] < told["step_seconds"]
    assert half["bytes_per_chip"]["activations"] < told["bytes_per_chip"]["activations"]
    assert not any(said.startswith("--precision bfloat16 ") for said in half["advice"])


def test_activations_that_are_computed_again_take_less_memory_and_more_operations(tmp_path):
    line = "pretrain --data digits --model vit --model-arguments width=32 depth=4 num_heads=2 --batch-size 512 --on l4"
    ((told,), _) = plans(f"{line} --compiles 0", tmp_path)
    (tmp_path / "again").mkdir()
    ((again,), _) = plans(f"{line} --compiles 0 --remat", tmp_path / "again")
    assert again["bytes_per_chip"]["activations"] < 0.7 * told["bytes_per_chip"]["activations"]
    assert 1.1 < again["flops"] / told["flops"] <= 4 / 3 + 1e-6  # forward once more, which is a third of all


@needs_compiler
@pytest.mark.slow
def test_examples_that_are_fetched_from_other_chips_are_told(tmp_path):
    line = (
        "pretrain --data digits --image-size 32 --model mlp --model-arguments hidden=[8] --batch-size 512 --compiles 0"
    )
    ((told,), _) = plans(f"{line} --on v5e:2x4", tmp_path)
    assert any("--stream always" in said for said in told["advice"])
    (tmp_path / "streamed").mkdir()
    ((streamed,), _) = plans(f"{line} --on v5e:2x4 --stream always", tmp_path / "streamed")
    sent = [sum(one["bytes"] for one in plan["collectives"].values()) for plan in (told, streamed)]
    assert sent[0] - sent[1] > 0.9 * told["batch"] * 32 * 32
    assert not any("--stream" in said for said in streamed["advice"])


def test_chips_that_are_not_used_are_told(tmp_path):
    ((told,), said) = plans(f"pretrain {MLP} --devices 2 --on h100x8", tmp_path)
    assert (told["chips"], told["chips_used"]) == (8, 2)
    assert "8 chips (2 used)" in said


def test_divided_parameters_take_their_part_and_are_collected(tmp_path):
    parameters = 4 * (64 * 32 + 32 + 32 * 10 + 10)
    ((told,), _) = plans(f"pretrain {MLP} --parallel fsdp --on h100x8", tmp_path)
    assert told["bytes_per_chip"]["parameters"] == parameters // 8
    assert told["collectives"]["all-gather"]["bytes"] == 2 * parameters
    assert told["collectives"]["reduce-scatter"]["sent"] == pytest.approx(parameters * 7 / 8)
    assert "all-reduce" not in told["collectives"]


def test_folds_lie_over_gpus_where_that_is_faster(tmp_path):
    ((told,), said) = plans(f"cross-validate {MLP} --folds 4 --on h100x4", tmp_path)
    assert told["trainings"] == 4
    assert told["folds"]["shard"] < told["folds"]["loop"]
    assert told["collectives"] == {}
    assert "shard" in said
    (tmp_path / "nested").mkdir()
    more = "--interval nested --nested-repeats 1"
    ((nested,), _) = plans(f"cross-validate {MLP} --folds 4 {more} --on h100x4", tmp_path / "nested")
    assert nested["trainings"] == 4 + 6
    assert nested["hours"] == pytest.approx(told["hours"] * 10 / 4)


def test_ways_that_have_a_step_in_common_and_larger_batches_trace_no_more_than_they_must(tmp_path, monkeypatch):
    traced = []
    for name in ("step_operations", "product_bytes"):
        known = getattr(elsewhere, name)
        monkeypatch.setattr(elsewhere, name, lambda *a, n=name, f=known, **k: traced.append(n) or f(*a, **k))
    ((told,), _) = plans(f"cross-validate {MLP} --folds 3 --batch-size 64 --on l4 --compiles 1", tmp_path)
    assert set(told["folds"]) == {"loop", "vmap"}
    assert told["largest_batch"]["compiles"] == 1
    assert sorted(traced) == ["product_bytes", "step_operations", "step_operations"]


@pytest.mark.slow  # quick: what does not fit, of `validation/planning`
def test_what_does_not_fit_is_no_error_and_what_helps_is_true(tmp_path):
    """Activations of 8,192 numbers for each of many pixels are too much for 16 GB; the advice is followed."""
    line = (
        "pretrain --data digits --image-size 64 --model vit --model-arguments width=1024 patch_size=2 num_heads=4 "
        "depth=4 --on t4 --compiles 4"
    )
    ((told,), said) = plans(f"{line} --batch-size 64", tmp_path)
    assert not told["fits"]
    assert told["needs_bytes_per_device"] > told["has_bytes_per_device"]
    assert (told["step_seconds"], told["hours"]) == (None, None)
    assert "does not fit" in said
    helps = next(one["options"] for one in told["remedies"] if one["fits"])
    assert f"with {helps}: fits" in told["advice"][len(told["remedies"]) - 1]
    for place, options in enumerate((f"--batch-size 64 {helps}", f"--batch-size {told['largest_batch']['fits']}")):
        (tmp_path / str(place)).mkdir()
        ((followed,), _) = plans(f"{line} {options} --compiles 0", tmp_path / str(place))
        assert followed["fits"]


@needs_compiler
def test_tpus_are_told_by_their_compiler(tmp_path):
    (one, two), said = plans(f"finetune {MLP} --epochs 2 --on v5e:2x4 h100x8 --compiles 1", tmp_path)
    assert one["fits"]
    assert one["seconds"]["compiler"] > 0
    assert one["collectives"]["all-reduce"]["bytes"] >= 4 * (64 * 32 + 32 + 32 * 10 + 10)
    assert one["flops"] == two["flops"]
    assert one["bytes_per_chip"]["parameters"] == two["bytes_per_chip"]["parameters"]
    assert one["bytes_per_chip"]["program"] > 0
    assert one["largest_batch"]["fits"] > one["batch"]
    assert "compiler" in one["basis"]
    assert "v5e:2x4: 8 chips" in said


@needs_compiler
@pytest.mark.slow
def test_the_program_takes_a_process_of_its_own_where_jax_may_look_for_devices():
    """Without JAX_PLATFORMS=cpu; the plan and its exit code come from there."""
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    for line, code, said in (
        (f"pretrain {MLP} --compiles 0 --on v5e:2x4", 0, "v5e:2x4: 8 chips"),
        ("pretrain --data nowhere --model mlp --on v5e:2x4", 2, "nowhere"),
    ):
        program = [sys.executable, "-c", "from jaxdl.cli import main; main()", "plan", *shlex.split(line)]
        done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize("how", ["SEGV", "ABRT"])
def test_a_compiler_that_ends_its_process_is_an_error_that_says_what_to_leave_out(how, tmp_path, monkeypatch):
    """The compiler for v6e does so on a step of ResNet-50; here a shell ends itself in its place."""
    (tmp_path / "python").write_text(f"#!/bin/sh\nkill -{how} $$\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.delenv("TPU_SKIP_MDS_QUERY")  # JAX_PLATFORMS=cpu alone is no such process
    said = refused(f"plan pretrain {MLP} --on v5e:2x4")
    assert f"SIG{how}" in said
    assert "leave that slice out of --on" in said


def test_without_the_compiler_it_is_said_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == "libtpu" else find(name, *of))
    said = refused(f"plan pretrain {MLP} --on v5e:2x4")
    assert "pip install 'jax[tpu]'" in said


def test_a_compiler_that_cannot_be_loaded_is_an_error_that_says_what_to_install(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("JAX TPU support not installed")

    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", broken)
    said = refused(f"plan pretrain {MLP} --on v5e:2x4")
    assert "cannot be loaded (JAX TPU support not installed): pip install -U 'jax[tpu]'" in said


def test_small_amounts_and_times_are_told_in_digits_that_mean_something(tmp_path):
    (one, _), said = plans(f"pretrain {MLP} --epochs 3 --on h100x8 l4 --price 2 0.5 --compiles 0", tmp_path / "new")
    told = re.search(r", (0\.0\S+) at 2 for a chip and hour", said)[1]
    assert float(told) == pytest.approx(one["cost"], rel=0.05)
    assert one["cost"] > 0
    milliseconds = float(re.search(r"3 epochs of 57 steps: (\S+) ms", said)[1])
    assert milliseconds == pytest.approx(one["hours"] * 3.6e6, rel=0.01)
    assert "of 60 GB that JAX takes of its 80 GB (" in said
    assert re.search(rf"h100x8 .* ms +{told} ", said)
    written = [
        (1234.567, "1234.57"),
        (1, "1.00"),
        (0.999, "1.00"),
        (0.25, "0.25"),
        (0.03, "0.03"),
        (0.00163, "0.0016"),
        (2.1e-7, "0.00000021"),
        (0, "0.00"),
    ]
    assert [money(amount) for amount, _ in written] == [words for _, words in written]


def test_shares_of_the_peak_are_never_nothing():
    written = (
        (0.512, "51.2 %"),
        (0.01, "1.0 %"),
        (0.00449, "0.4 %"),
        (0.00003, "0.003 %"),
        (1e-7, "less than 0.001 %"),
    )
    assert [of_peak(share) for share, _ in written] == [words for _, words in written]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (f"pretrain {MLP} --on v9:2x2", "v5e"),
        (f"pretrain {MLP} --on v5e:3x3", "2x4"),
        (f"pretrain {MLP} --on h100x8 l4 --price 1 2 3", "3 prices for 2 slices"),
        (f"pretrain {MLP} --on h100x8 --price -1", "-1"),
        (f"pretrain {MLP} --on h100x8 --price 1 2", "2 prices for 1 slice;"),
        (f"pretrain {MLP} --on h100x8 --compiles -1", "--compiles is -1"),
        (f"pretrain {MLP}", "--on"),
        (f"pretrain {MLP} --on", "--on names no slice"),
        (f"pretrain {MLP} --on h100x8 --folds 5", "pretrain has no option --folds; it is an option of cross-validate"),
        (f"finetune {MLP} --on h100x8 --splitter=kfold", "finetune has no option --splitter"),
        (f"pretrain {MLP} --on h100x8 --mesh data=4,model=2", "--mesh"),
        (f"pretrain {MLP} --on h100x8 --mesh data=16", "16 devices, but h100x8 has 8"),
        (f"pretrain {MLP} --on h100x8 --devices 9", "9 devices, but h100x8 has 8"),
        (f"search {MLP} --on h100x8", "cross-validate"),
        ("pretrain --data digits --init here --on h100x8", "--init"),
        ("finetune --data digits --on h100x8", "--model"),
        (f"cross-validate {MLP} --on h100x8 --parallel pmap --fold-strategy shard", "pmap"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(line, named):
    assert named in refused(f"plan {line}")
