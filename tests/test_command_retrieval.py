"""``--task retrieval`` and ``jaxdl embed`` on a table of questions and answers."""

import csv

import numpy as np
import pytest
from command_line import jaxdl_command, read_csv, refused
from word_pieces import PIECES, word_pieces

import jaxdl
from jaxdl import data

WORDS = [word for word in PIECES[5:] if word[0].isalpha()]
NET = "--model textcnn --model-arguments width=8 features=6 --tokenizer tokens --length 12 --batch-size 8"
ASKED = "--data faq.csv --task retrieval --text-column question answer"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("faq")
    (home / "tokens").mkdir()
    word_pieces(home / "tokens")
    rng = np.random.default_rng(0)
    answers = [" ".join(rng.choice(WORDS, 6)) for _ in range(9)]
    with open(home / "faq.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        writer.writerows([f"{answers[i % 9]} , {rng.choice(WORDS)}", answers[i % 9]] for i in range(27))
    (home / "lines.txt").write_text("a good day\nbad days\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        jaxdl_command(f"pretrain {ASKED} {NET} --epochs 2 --no-report --out net")
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


@pytest.mark.slow
def test_folds_over_documents_are_told_with_the_number_of_candidates(tmp_path):
    said = jaxdl_command(f"cross-validate {ASKED} {NET} --epochs 2 --folds 3 --out {tmp_path / 'run'}")
    assert "faq.csv: 27 examples, pairs of texts; queries to 9 different documents; 9 groups" in said
    result = jaxdl.load_result(tmp_path / "run")
    assert (result.task, result.metric) == ("retrieval", "recall_at_1")
    assert set(result.out_of_fold.kept["candidates"]) == {3}
    assert result.baseline["recall_at_1"] == pytest.approx(1 / 3)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the different documents of the fold" in page
    assert "recall at 1" in page
    assert "nearest document" in page
    assert " of 3</span>" in page  # ranks


def test_a_checkpoint_ranks_and_embeds(tmp_path):
    card = jaxdl.restore("net").card
    assert (card.task.name, card.columns, card.preprocessing.length) == ("retrieval", ("question", "answer"), 12)
    said = jaxdl_command(f"predict --checkpoint net --data faq.csv --out {tmp_path / 'ranks.csv'}")
    assert "recall_at_1" in said
    rows = read_csv(tmp_path / "ranks.csv")
    assert {row["of"] for row in rows} == {"9"}
    said = jaxdl_command(f"embed --checkpoint net --data faq.csv --text-column answer --out {tmp_path / 'answers.npz'}")
    assert "27 vectors of 18 numbers in" in said
    vectors = data.load(str(tmp_path / "answers.npz"))
    np.testing.assert_allclose(np.linalg.norm(vectors.x, axis=1), 1, atol=1e-5)
    assert vectors.texts[0] == data.csv("faq.csv", text_column="answer", labelled=False).held[0]
    assert "2 vectors" in jaxdl_command(f"embed --checkpoint net --data lines.txt --out {tmp_path / 'lines.npz'}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            f"cross-validate --data faq.csv --task retrieval --text-column question {NET} --out no",
            "--text-column QUERY DOCUMENT",
        ),
        (f"cross-validate --data digits --task retrieval {NET} --out no", "expected queries with their documents"),
        (f"pretrain {ASKED} {NET} --accumulate 2 --out no", "accumulate is 2, but retrieval compares the examples"),
        ("embed --checkpoint net --data faq.csv --out no.npz", "queries and documents, which have a vector each"),
        ("embed --checkpoint net --data faq.csv --text-column nothing --out no.npz", "'nothing'"),
    ],
)
def test_mistakes_end_in_one_line(line, said):
    assert said in refused(line)
