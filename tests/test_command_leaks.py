"""Leaks on the command line: refused in one message, allowed by name, mended by groups."""

import numpy as np
import pytest
from command_line import call, jaxdl_command, refused, says_what_was_read
from PIL import Image

import jaxdl
from jaxdl import data
from jaxdl.validation.leakage import duplicate_groups
from jaxdl.validation.result import load_result


@pytest.fixture
def twice(tmp_path, monkeypatch):
    """``twice.npz``: 20 pictures, 10 of them once more and 5 once more and brighter."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (20, 6, 6, 3), np.uint8)
    x = np.stack([np.asarray(Image.fromarray(one).resize((16, 16), Image.Resampling.BICUBIC)) for one in coarse])
    x = np.concatenate([x, x[:10], (x[10:15] * 0.8 + 40).astype(np.uint8)])
    np.savez(tmp_path / "twice.npz", x=x, y=np.r_[np.arange(20), np.arange(15)] % 2)
    monkeypatch.chdir(tmp_path)
    return data.npz("twice.npz")


def test_copies_are_refused_allowed_or_grouped(twice):
    command = "cross-validate --model mlp --data twice.npz --epochs 1 --folds 2 --fold-strategy vmap --out run"
    code, out, said = call(command)
    assert code == 2
    assert says_what_was_read(out)
    assert "\n  duplicates: " in said
    assert "\n  near-duplicates: " in said
    assert said.count("--group-duplicates") == 1
    assert "--allow duplicates near-duplicates" in said
    assert "near-duplicates: " not in refused(f"{command} --allow near-duplicates")
    assert "Did you mean 'duplicates'" in refused(f"{command} --allow duplicate")
    said = jaxdl_command(f"{command} --allow duplicates near-duplicates")
    assert "Caution: duplicates: " in said
    assert {leak["name"] for leak in load_result("run").leaks} == {"duplicates", "near-duplicates"}
    said = jaxdl_command(f"{command}-2 --group-duplicates")
    assert "Caution" not in said
    result = load_result("run-2")
    assert result.split["kind"] == "stratified-group"
    assert not result.leaks
    fold = result.out_of_fold.fold[np.argsort(result.out_of_fold.index)]
    np.testing.assert_array_equal(fold[20:35], fold[:15])


@pytest.mark.slow
def test_held_out_examples_of_a_training(twice):
    command = "pretrain --model mlp --data twice.npz --epochs 1 --validation-fraction 0.4"
    assert "duplicates: 5 examples are tested" in refused(f"{command} --allow near-duplicates --out new")
    jaxdl_command(f"{command} --allow duplicates near-duplicates --out new")
    assert 0 < len(jaxdl.restore("new").card.seen) <= 25  # of 25 different contents
    jaxdl_command("pretrain --model mlp --data twice.npz --epochs 1 --out all")  # nothing is measured
    leaks = "--allow duplicates near-duplicates"
    again = f"finetune --init all --data twice.npz --epochs 1 --validation-fraction 0.4 {leaks} --out more"
    assert "parent: 14 examples are tested that the checkpoint" in refused(again)
    np.savez("grouped.npz", x=twice.x, y=twice.targets(), groups=duplicate_groups(twice).groups)
    jaxdl_command("pretrain --model mlp --data grouped.npz --epochs 1 --validation-fraction 0.4 --out grouped")
