"""Command lines on texts, with small networks; one on a real sentence encoder."""

import csv
import gzip
import json
import warnings

import numpy as np
import pytest
from command_line import call, jaxdl_command, read_csv, refused
from libraries import real_minilm
from word_pieces import PIECES, word_pieces

import jaxdl
from jaxdl import cli, data

FILL = [word for word in PIECES[5:] if word[0].isalpha() and word not in ("good", "bad")]
SMALL = "--model textcnn --model-arguments width=4 features=2 --tokenizer tokens --length 10"
FEW = "--epochs 1 --batch-size 8 --no-report"


def _rows(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = ["good", "bad"] * (count // 2)
    return [
        {"text": f"{' '.join(rng.permutation(FILL * 2))} {label} {i}", "label": label, "doc_id": f"d{i // 3}"}
        for i, label in enumerate(labels)
    ]


def _write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
            return
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("text")
    (home / "tokens").mkdir()
    word_pieces(home / "tokens")
    rows = _rows(24)
    for row in rows[::5]:
        row["text"] += " \u202eשלום\x1b[31m"
    for name in ("r.csv", "r.jsonl"):
        _write(home / name, rows)
    _write(home / "new.csv", [{"text": row["text"]} for row in _rows(4, 1)])
    (home / "lines.txt").write_text("a good day\n\n\x1b[31mbad " + "day " * 40 + "\n\u202eשלום\n")
    for i, row in enumerate(rows):
        folder = home / "folder" / ("train" if i < 16 else "val") / row["label"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.txt").write_text(row["text"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        said = jaxdl_command(f"pretrain --data r.csv:label --text-column text --group doc_id {SMALL} {FEW} --out net")
        assert "r.csv: 24 examples, texts; 2 classes (bad 12, good 12); 8 groups" in said
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


def test_a_new_model_is_told_how_many_tokens_there_are(home):
    card = jaxdl.restore("net").card
    assert jaxdl.restore("net").model.vocabulary == len(PIECES)
    assert (card.preprocessing.length, card.columns, card.target) == (10, ("text",), ("label",))
    assert "input text of up to 10 tokens" in jaxdl_command("inspect net")


@pytest.mark.parametrize("data", ["r.jsonl", "r.csv", "new.csv", "lines.txt", "folder", "folder:train"])
def test_predictions_name_the_texts_and_cut_the_long_ones(tmp_path, data):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        out = jaxdl_command(f"predict --checkpoint net --data {data} --out {tmp_path}/p.csv")
    rows = read_csv(tmp_path / "p.csv")
    assert all(row["text"] for row in rows) == (data != "lines.txt")
    assert all(len(row["text"]) <= 80 for row in rows)
    assert all(("label" in row) == (data not in ("new.csv", "lines.txt")) for row in rows)
    if "folder" in data:
        assert all(row["example"].endswith(".txt") and row["label"] in row["example"] for row in rows)
    if data == "lines.txt":
        (said,) = [str(one.message) for one in told if "cut" in str(one.message)]
        assert "longer than 10 tokens, and so cut: 1 of 4 texts. To read more of them, train with --length 20" in said
        assert [row["text"] for row in rows[:2]] == ["a good day", ""]
        assert "(no text): " in out
        for said in (out, (tmp_path / "p.csv").read_text()):
            assert "\x1b[31m" not in said
            assert "\u202e" not in said
            assert "שלום" in said


@pytest.mark.parametrize(
    ("line", "advice", "followed"),
    [
        (
            "predict --checkpoint net --data other.csv --out OUT.csv",
            "--text-column COLUMN",
            "--text-column review",
        ),
        ("split --data only.csv:label", "--text-column review learns from its texts", "--text-column review"),
        ("split --data bare.csv:label --text-column text", "--header no", "--header no --text-column 1 --target 2"),
        (
            f"pretrain --data r.csv:label --text-column text {SMALL.partition(' --tok')[0]} {FEW} --out OUT",
            "--tokenizer tokenizer.json",
            "--tokenizer tokens",
        ),
        pytest.param(
            f"pretrain --data r.csv:label --text-column text {SMALL} {FEW} --model bert_tiny --model-arguments width=4 "
            "longest=8 --out OUT",
            "a length of 8 at most",
            "--length 8",
            marks=pytest.mark.slow,
        ),
        (
            f"finetune --init net --data r.csv:label --text-column text --tokenizer tokens {FEW} --out OUT",
            "leave it out",
            None,
        ),
    ],
)
def test_advice_helps(home, tmp_path, line, advice, followed):
    rows = [{"review": row["text"], "label": row["label"]} for row in _rows(24)]
    _write(home / "other.csv", rows)
    _write(home / "only.csv", rows)
    (home / "bare.csv").write_text("".join(f"{row['review']},{row['label']}\n" for row in rows))
    line = line.replace("OUT", str(tmp_path / "out"))
    assert advice in refused(line)
    if followed is None:
        followed, line = "", line.replace(" --tokenizer tokens", "")
    if "--target" in followed:
        line = line.replace(":label --text-column text", "")
    code, out, err = call(f"{line} {followed}")
    assert code == 0, out + err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("predict --checkpoint net --data r.csv --text-column txt --out x.csv", "Did you mean 'text'"),
        ("predict --checkpoint net --data folder --text-column text --out x.csv", "--text-column is for tables"),
        ("predict --checkpoint net --data digits --out x.csv", "uint8[8, 8, 1]; the network takes text of up to 10"),
        ("predict --checkpoint net --data a.txt b.txt --out x.csv", "the network reads texts: name one file"),
        (f"predict --checkpoint net --data '{'a good day ' * 60}' --out x.csv", "a file .txt with a text in each line"),
        (f"pretrain --data digits --tokenizer tokens --model mlp {FEW} --out x", "a tokenizer is for texts"),
        (f"pretrain --data digits --length 8 --model mlp {FEW} --out x", "digits holds no texts"),
        (f"pretrain --data digits --text-column a --model mlp {FEW} --out x", "--text-column is for tables"),
        (f"finetune --data r.csv:label --text-column text --init net --length 0 {FEW} --out x", "the length is 0"),
        (f"finetune --data r.csv:label --text-column text --init net --image-size 8 {FEW} --out x", "image size"),
        (f"pretrain --data r.csv:label --text-column text {SMALL} vocabulary=5 {FEW} --out x", "14 tokens, and"),
    ],
)
def test_what_cannot_be_is_refused(line, said):
    if "vocabulary=5" in line:
        line = line.replace("features=2", "features=2 vocabulary=5").replace("10 vocabulary=5", "10")
    assert said in refused(line)


def test_texts_that_are_cut_are_said_once(capsys):
    say = cli.warnings_as_notes()
    for said in ("a.csv: cut: 3 of 1,200 texts.", "a.csv: cut: 1 of 20 texts.", "b.csv: cut: 1 of 20 texts."):
        say(UserWarning(said), UserWarning, "file.py", 3)
    shown = capsys.readouterr().err.splitlines()
    assert shown == [f"jaxdl: note: {said}" for said in ("a.csv: cut: 3 of 1,200 texts.", "b.csv: cut: 1 of 20 texts.")]


@pytest.mark.slow
def test_a_run_of_another_length_is_another_run(tmp_path):
    line = f"finetune --init net --data r.csv:label --text-column text {FEW} --out {tmp_path}/tuned"
    assert "checkpoint in" in jaxdl_command(f"{line} --length 8")
    assert jaxdl.restore(tmp_path / "tuned").card.preprocessing.length == 8
    code, _, err = call(f"{line} --length 9")
    assert code == 2
    assert "length: 8 then, 9 now" in err
    assert "checkpoint in" in jaxdl_command(f"{line} --length 8")


def test_vectors_of_texts_are_those_of_their_column(home, tmp_path):
    _write(tmp_path / "other.csv", [{"review": row["text"], "n": i} for i, row in enumerate(_rows(4))])
    line = f"embed --checkpoint net --data {tmp_path}/other.csv --out {tmp_path}/v.npz"
    assert "--text-column COLUMN" in refused(line)
    jaxdl_command(f"{line} --text-column review")
    (tmp_path / "l.txt").write_text("".join(f"{row['text']}\n" for row in _rows(4)))
    jaxdl_command(f"embed --checkpoint net --data {tmp_path}/l.txt --out {tmp_path}/w.npz")
    one, two = (np.load(tmp_path / f"{name}.npz") for name in "vw")
    assert one["texts"].tolist() == two["texts"].tolist() == [row["text"] for row in _rows(4)]
    np.testing.assert_array_equal(one["x"], two["x"])


def test_labels_that_are_new_are_said(tmp_path):
    _write(tmp_path / "odd.csv", [row | {"label": "odd" if i == 3 else row["label"]} for i, row in enumerate(_rows(8))])
    out = jaxdl_command(f"predict --checkpoint net --data {tmp_path}/odd.csv --out {tmp_path}/p.csv")
    assert "no accuracy: the checkpoint does not know all classes of the data (odd)" in out
    assert read_csv(tmp_path / "p.csv")[3]["label"] == "odd"
    line = f"finetune --data r.csv:label --text-column text --init net {FEW} --validation {tmp_path}/odd.csv --out"
    assert "odd" in refused(f"{line} {tmp_path}/x")


@pytest.mark.parametrize(
    "data", ["folder:all", pytest.param("r.csv:label --text-column text --group doc_id", marks=pytest.mark.slow)]
)
def test_cross_validation_and_its_page_take_texts(home, tmp_path, data):
    line = f"cross-validate --data {data} {SMALL} --epochs 1 --folds 2 --out {tmp_path}/cv"
    assert "results and report.html" in jaxdl_command(line)
    page = (tmp_path / "cv" / "report.html").read_text()
    assert "cannot be shown" not in page
    jaxdl_command(f"report {tmp_path}/cv --out {tmp_path}/again.html")
    assert "cannot be shown" not in (tmp_path / "again.html").read_text()
    assert not set(page) & {"\x1b", "\u202e"}  # of the texts


def test_copies_of_a_text_in_two_folds_are_refused_and_groups_help(tmp_path):
    rows = _rows(12)
    said = "The colours of the sea at dusk/An actor who forgot his own lines/Nobody laughed in our row/Music by four "
    said += "friends from Porto/It ends where every chase ends/Several stories without a link"
    for i, text in enumerate(said.split("/")):
        rows[2 * i]["text"], rows[2 * i + 1]["text"] = text, f"{text.upper()}!"
    _write(tmp_path / "r.jsonl", rows)
    line = (
        f"cross-validate --data {tmp_path}/r.jsonl:label --text-column text {SMALL} {FEW} --folds 2 --out {tmp_path}/x"
    )
    line += " --allow labels"
    code, _, err = call(line)
    assert code == 2
    assert "examples are tested that read the same as some that the same fold trains on" in err
    assert "accuracy" in jaxdl_command(f"{line} --group-duplicates")


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "search --strategy random --trials 2 --space learning_rate=log:1e-3:1e-1",
        "learning-curve --sizes 6 10",
        "variance --splits 2 --seeds 1",
        "recommend --minutes 1 --methods full",
        "find-lr --steps 10",
    ],
)
def test_other_commands_take_texts(tmp_path, line):
    name, _, options = line.partition(" ")
    out = f"{tmp_path}/out{'.png' if name == 'find-lr' else ''}"
    few = "" if name in ("find-lr",) else "--epochs 1 --folds 2" if name != "variance" else "--epochs 1"
    start = "--init net --allow parent" if name == "recommend" else SMALL
    jaxdl_command(f"{name} --data r.csv:label --text-column text --group doc_id {start} {options} {few} --out {out}")


@pytest.mark.slow
def test_real_sentences_are_told_apart_by_a_real_encoder(tmp_path, real_data, monkeypatch):
    """The first 200 of SST-2, of which 56 % are positive, packed and without a line of names as they are published."""
    monkeypatch.chdir(tmp_path)
    for part, count in (("train", 200), ("dev", 100)):
        with gzip.open(real_data / f"sst2_{part}.tsv.gz", "rt", encoding="utf-8") as file:
            lines = [line for _, line in zip(range(count), file, strict=False)]
        with gzip.open(f"{part}.tsv.gz", "wt", encoding="utf-8") as file:
            file.writelines(lines)
    jaxdl_command(f"convert --from {real_minilm()} --out minilm")
    out = jaxdl_command(
        "probe --data train.tsv.gz:2 --text-column 1 --header no --init minilm --heads ridge --out heads --length 64 "
        "--save-best best"
    )
    assert "train.tsv.gz: 200 examples, texts; 2 classes (0 87, 1 113)" in out
    assert jaxdl.load_result("heads/ridge").mean > 0.62
    new = jaxdl.predict(jaxdl.restore("best"), data.csv("dev.tsv.gz", "2", text_column="1", header=False))
    assert new.accuracy > 0.62


@pytest.mark.slow
def test_a_transformer_from_scratch_and_a_tokenizer_made_of_the_texts(tmp_path):
    given = "--data r.csv:label --text-column text --group doc_id --model transformer --length 16 --tokenizer"
    small = "--model-arguments width=4 num_heads=2 depth=1"
    jaxdl_command(f"pretrain {given} train:60:words {small} positions=rotary {FEW} --out {tmp_path / 'net'}")
    network = jaxdl.restore(tmp_path / "net")
    assert network.model.vocabulary == 60
    with open("r.csv", newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    assert network.card.preprocessing.tokenizer == data.train_tokenizer(texts, 60, "words")
    said = jaxdl_command(f"cross-validate {given} train:60 {small} --folds 2 {FEW} --out {tmp_path / 'run'}")
    assert "tokenizer is made of all texts, those that a fold tests included, without their labels" in said
    _, _, err = call(f"pretrain {given} train:9 {small} {FEW} --out {tmp_path / 'none'}")
    assert "the vocabulary is 9; expected a number of tokens of at least 10" in err
