"""``jaxdl probe``, called as the program calls it."""

import numpy as np
import pytest
from command_line import jaxdl_command, refused, told_on_page

import jaxdl
from jaxdl import data


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network that learned the digits 0 to 4 for a moment."""
    path = tmp_path_factory.mktemp("probe") / "ckpt"
    source = data.subset(data.digits(range(5)), np.arange(200))
    return jaxdl.save(jaxdl.pretrain(jaxdl.create("mlp", 5, hidden=(32,)), source, jaxdl.Plan(epochs=3)), path)


def test_probe_measures_heads_and_saves_the_best(checkpoint, tmp_path):
    out, best = tmp_path / "run", tmp_path / "best"
    line = f"probe --init {checkpoint} --data digits:5-9 --out {out} --folds 3 --penalties 1 100"
    line += " --heads ridge logistic knn"
    said = jaxdl_command(f"{line} --save-best {best}")
    for word in ("ridge", "logistic", "knn", "3 inner folds", "ran over"):
        assert word in said
    assert "no standard error" in told_on_page(said)
    result = jaxdl.load_result(out / "logistic")
    assert result.mean > 0.8
    assert f"{100 * result.mean:.1f} ±" in said
    assert result.class_names == ("5", "6", "7", "8", "9")
    table = tmp_path / "said.csv"
    assert "accuracy 0.9" in jaxdl_command(f"predict --checkpoint {best} --data digits:5-9 --out {table}")
    assert "report" in jaxdl_command(f"report {out / 'logistic'}")
    for folder in (out, out / "logistic"):  # both say how to make them again, the head's shows examples, too
        page = (folder / "report.html").read_text()
        assert "<span>probe</span> <span>--init</span>" in page
        assert "--restart" not in page  # which it does not have
    assert "logistic on frozen features" in page
    assert "fine-tuning" not in page
    assert "<img" in page.split("Most confidently wrong")[-1]
    again = refused(f"cross-validate --init {checkpoint} --data digits:5-9 --out {out}")
    assert "holds what probe made" in again


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--penalties 1:10", "neither a number nor LOW:HIGH:COUNT"),
        ("--penalties -1", "above 0"),
        ("--heads logstic", "Did you mean 'logistic'"),
        ("--stage stem", "unknown stage"),
        ("--stage head", "is the head itself"),
        ("--heads knn --save-best best", "needs ridge or logistic"),
    ],
)
def test_mistakes_end_in_one_line(checkpoint, tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(f"probe --init {checkpoint} --data digits:5-9 --out run {options}")
    assert not (tmp_path / "run").exists()
