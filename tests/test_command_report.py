"""``jaxdl report`` as a user calls it."""

import pytest

from jaxdl.cli import COMMANDS, main
from jaxdl.commands.report import report_command

OPTIONS = ["--epochs", "1", "--folds", "2", "--fold-strategy", "loop", "--model-arguments", "hidden=[4]"]


@pytest.fixture(scope="module", autouse=True)
def registered():
    assert COMMANDS["report"] is report_command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "a run"
    main(["cross-validate", "--model", "mlp", "--data", "digits:0,1", "--out", str(out), *OPTIONS])
    return out


def without_times(path):
    """The page less what is measured anew each time."""
    text = path.read_text()
    begin = text.index('<section id="stages">')
    return text[:begin] + text[text.index("</section>", begin) :]


def test_the_report_is_that_which_cross_validate_wrote(run, tmp_path, capsys):
    before = without_times(run / "report.html")
    main(["report", str(run)])
    assert f"report in {run / 'report.html'}" in capsys.readouterr().out
    assert without_times(run / "report.html") == before
    main(["report", str(run), "--data", "digits:0,1", "--out", str(tmp_path / "page.html")])
    assert without_times(tmp_path / "page.html") == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere"),
        (["{run}", "--data", "digits:2,3"], "digits:2,3"),
        (["{run}", "--data", "digit"], "'digits'"),
        (["{run}", "--out", "{run}/nowhere/page.html"], "nowhere"),
        (["{run}", "--out", "{run}/run.json"], "run.json"),
    ],
)
def test_mistakes_end_in_a_message(run, arguments, said, capsys):
    kept = (run / "run.json").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        main(["report", *(argument.format(run=run) for argument in arguments)])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert (run / "run.json").read_bytes() == kept
