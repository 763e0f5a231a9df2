"""What the README shows runs as it stands there."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from jaxdl import cli

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(section, language):
    text = README.split(f"## {section}")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_the_quickstart_in_python(tmp_path, monkeypatch, capsys):
    """Its first block stands alone; the second one says that it goes on from there."""
    monkeypatch.chdir(tmp_path)
    quickstart, metrics = blocks("Quickstart in Python", "python")
    names = {}
    exec(quickstart, names)
    assert "±" in capsys.readouterr().out
    assert len(names["result"].folds) == 3
    assert names["taps"]["conv2"].shape == (8, 2, 2, 64)
    assert names["features"].shape == (8, 128)
    np.testing.assert_allclose(
        names["logits"],
        names["jaxdl"].predict(names["tuned"], names["data"].digits(range(5, 10))).logits[:8],
        atol=1e-4,
    )
    assert "goes on from" in README.split(metrics)[0].splitlines()[-3]
    exec(metrics, names)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()][:1] == ["kappa"]


def test_a_source_and_a_task_of_your_own_stand_alone(capsys):
    (own,) = blocks("A source and a task of your own", "python")
    names = {}
    exec(own, names)
    assert capsys.readouterr().out.startswith("deviance")
    assert names["result"].mean < names["result"].baseline["deviance"]


@pytest.mark.slow
def test_shell_quickstart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (text,) = blocks("Quickstart in the shell", "")
    commands = text.strip().splitlines()
    assert len(commands) == 5
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "jaxdl"
        cli.main(arguments)
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert written == {
        "result.json",
        "out_of_fold.npz",
        "metrics.jsonl",
        "report.html",
        "run.json",
        "folds",
        "split.npz",
    }
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 897
    assert "accuracy" in capsys.readouterr().out


def test_links_and_pictures_are_there():
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)]+)\)", README.replace("\n", " ")):
        assert (root / target).exists(), target
