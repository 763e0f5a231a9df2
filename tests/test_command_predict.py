"""``jaxdl predict`` of folders of images by a network of many classes, and by several networks together."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from command_line import call, jaxdl_command, read_csv, refused
from PIL import Image

import jaxdl
from jaxdl import data
from jaxdl.commands.console import inert
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.errors import InputError
from jaxdl.tasks.columns import distinct

NAMES = [f"kind {i}" for i in range(58)] + ["crane", "crane"]  # a bird and a machine
IMAGES = ImagePreprocessing((8, 8, 3), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def network(names, seed, task=None):
    """Of random weights, made to differ enough that no two classes are equally probable."""
    made = jaxdl.from_model(jaxdl.create("mlp", len(names), hidden=(8,)), IMAGES, names, seed)
    return made if task is None else dataclasses.replace(made, card=dataclasses.replace(made.card, task=task))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Networks of many and of few classes, an ensemble, one for labels; photographs with and without classes."""
    home, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    for folder, count in (("loose", 7), ("sorted/kind 3", 2), ("sorted/unicorn", 2)):
        (home / folder).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(home / folder / f"{i}.png")
    many = [network(NAMES, seed) for seed in range(2)]
    jaxdl.save(many[0], home / "many")
    jaxdl.save_ensemble(jaxdl.ensemble(many), home / "together")
    jaxdl.save(network(NAMES[:50], 0), home / "fifty")
    jaxdl.save(network(NAMES[:3], 0, jaxdl.MultiLabel(tuple(NAMES[:3]))), home / "labels")
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


def softmax(logits):
    odds = np.exp(logits.astype(np.float64) - logits.max())
    return odds / odds.sum()


def logits_by_hand(checkpoint, folder):
    """Of every image of a folder; all have another size than the network takes, so that Pillow is asked here, too."""
    source = data.folder(folder, labelled=False)
    stored = np.stack([IMAGES.stored(source[i])["x"] for i in range(len(source))])
    return np.asarray(checkpoint.model.apply(checkpoint.variables, (stored / 255 - 0.5).astype(np.float32) / 0.2))


def check_rows(rows, chances, names, k):
    for row, p in zip(rows, chances, strict=True):
        best = sorted(range(len(p)), key=lambda i: -p[i])[:k]
        assert [row[f"top{place + 1}"] for place in range(k)] == [names[i] for i in best]
        told = [float(row[f"p{place + 1}"]) for place in range(k)]
        np.testing.assert_allclose(told, [p[i] for i in best], atol=2e-6)
        assert (row["predicted"], float(row["confidence"])) == (row["top1"], told[0])


def test_many_classes_are_told_by_the_five_most_probable(tmp_path):
    said = jaxdl_command(f"predict --checkpoint many --data loose --out {tmp_path / 'p.csv'}")
    assert (f"7 predictions in {tmp_path / 'p.csv'}, the 5 most probable of 60 classes") in said
    rows = read_csv(tmp_path / "p.csv")
    ranked = [f"{column}{place}" for place in range(1, 6) for column in ("top", "p")]
    assert list(rows[0]) == ["example", "predicted", "confidence", *ranked]
    chances = [softmax(row) for row in logits_by_hand(jaxdl.restore("many"), "loose")]
    check_rows(rows, chances, [*NAMES[:58], "crane (58)", "crane (59)"], 5)
    lines = [line for line in said.splitlines() if line.startswith("loose/")]
    assert len(lines) == 5  # a reader sees something, whatever the number of images
    for line, row in zip(lines, rows[:5], strict=True):
        shown = [f"{row[f'top{place}']} ({100 * float(row[f'p{place}']):.1f} %)" for place in (1, 2, 3)]
        assert line == f"{row['example']}: {', '.join(shown)}"


@pytest.mark.parametrize(("checkpoint", "options", "names"), [("many", "--top 0", NAMES), ("fifty", "", NAMES[:50])])
def test_all_classes_where_they_are_few_or_asked_for(tmp_path, checkpoint, options, names):
    said = jaxdl_command(f"predict --checkpoint {checkpoint} --data loose {options} --out {tmp_path / 'p.csv'}")
    assert "most probable" not in said
    logits = logits_by_hand(jaxdl.restore(checkpoint), "loose")
    columns = [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]
    for row, p in zip(read_csv(tmp_path / "p.csv"), map(softmax, logits), strict=True):
        told = {name[2:]: float(value) for name, value in row.items() if name.startswith("p:")}
        assert list(told) == columns  # also where two classes have one name
        np.testing.assert_allclose(list(told.values()), p, atol=2e-6)
        assert row["predicted"] == columns[int(np.argmax(p))]


def test_several_networks_together(tmp_path):
    jaxdl_command(f"predict --checkpoint together --data loose --top 2 --out {tmp_path / 'p.csv'}")
    members = [logits_by_hand(network(NAMES, seed), "loose") for seed in range(2)]
    chances = [(softmax(one) + softmax(other)) / 2 for one, other in zip(*members, strict=True)]
    check_rows(read_csv(tmp_path / "p.csv"), chances, distinct(NAMES), 2)


def test_mirror_images_are_asked_about_too(tmp_path):
    jaxdl_command(f"predict --checkpoint fifty --data loose --top 2 --tta flip --out {tmp_path / 'p.csv'}")
    checkpoint, source = jaxdl.restore("fifty"), data.folder("loose", labelled=False)
    stored = np.stack([IMAGES.stored(source[i])["x"] for i in range(len(source))])
    views = [jaxdl.predict(checkpoint, data.arrays(x)).probabilities for x in (stored, stored[:, :, ::-1])]
    check_rows(read_csv(tmp_path / "p.csv"), np.mean(views, 0), distinct(NAMES[:50]), 2)


def test_class_folders_that_the_network_does_not_know(tmp_path):
    said = jaxdl_command(f"predict --checkpoint fifty --data sorted --top 1 --out {tmp_path / 'p.csv'}")
    assert "no accuracy" in said
    assert "(unicorn)" in said
    rows = read_csv(tmp_path / "p.csv")
    assert list(rows[0]) == ["example", "predicted", "confidence", "label", "top1", "p1"]
    assert [row["label"] for row in rows] == ["kind 3"] * 2 + ["unicorn"] * 2
    assert all(row["predicted"] in NAMES for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--checkpoint fifty --top 51", "top is 51; expected from 1 to 50"),
        ("--checkpoint together --top -1", "top is -1; expected from 1 to 60"),
        ("--checkpoint labels --top 2", "top is 2, but multilabel"),
        ("--checkpoint together --tta flip --coverage 0.9", "without --tta"),
        ("--checkpoint fifty --tta flop", "Did you mean 'flip'"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, options, message):
    assert message in refused(f"predict {options} --data loose --out {tmp_path / 'p.csv'}")
    assert not (tmp_path / "p.csv").exists()


def test_what_is_no_classification_is_shown_by_its_answer(tmp_path):
    said = jaxdl_command(f"predict --checkpoint labels --data loose --out {tmp_path / 'p.csv'}")
    for row in read_csv(tmp_path / "p.csv")[:5]:
        assert f"{row['example']}: {row['predicted']}\n" in said


def test_top_in_python():
    checkpoint, source = jaxdl.restore("fifty"), data.folder("loose", labelled=False)
    predictions = jaxdl.predict(checkpoint, source)
    indices, names, chances = predictions.top(4)
    expected = np.array([softmax(row) for row in logits_by_hand(checkpoint, "loose")])
    np.testing.assert_array_equal(indices, np.argsort(-expected, axis=1)[:, :4])
    np.testing.assert_allclose(chances, -np.sort(-expected, axis=1)[:, :4], rtol=1e-4)
    assert names == [[NAMES[i] for i in row] for row in indices]
    np.testing.assert_array_equal(predictions.top(1).indices[:, 0], predictions.predicted)
    with pytest.raises(InputError, match="top is 0"):
        predictions.top(0)


def test_names_are_told_apart_whatever_they_are():
    assert distinct(["a", "b"]) == ["a", "b"]
    for names in (["a", "a"], ["a", "a", "a (0)"], ["a (1)", "a", "a", "a (1)"]):
        made = distinct(names)
        assert len(set(made)) == len(names)
        assert all(one.startswith(name) for one, name in zip(made, names, strict=True))


@pytest.mark.parametrize("cell", ["-5", "+1e3", "plain", "a=b", "", 3, 0.5, None])
def test_numbers_and_words_stay_as_they_are(cell):
    assert inert(cell) is cell


def test_what_a_spreadsheet_would_run_is_quoted(tmp_path):
    names = ["=1+1", "@sum"]
    jaxdl.save(network(names, 0), tmp_path / "n")
    said = jaxdl_command(f"predict --checkpoint {tmp_path / 'n'} --data loose --out {tmp_path / 'p.csv'}")
    predicted = jaxdl.predict(jaxdl.restore(tmp_path / "n"), data.folder("loose", labelled=False)).predicted
    assert [row["predicted"] for row in read_csv(tmp_path / "p.csv")] == [f"'{names[i]}" for i in predicted]
    assert "7 cells" in said
    for cell in ("=cmd|' /C calc'!A0", "+a", "-a", "\t=1", "@x"):
        assert inert(cell) == "'" + cell


def test_single_images_are_predicted_and_broken_ones_skipped(tmp_path):
    whole = read_rows(tmp_path, "loose")
    assert read_rows(tmp_path, "loose/3.png") == whole[3:4]
    assert read_rows(tmp_path, "loose/5.png loose/1.png") == [whole[5], whole[1]]
    said = refused(f"predict --checkpoint fifty --data loose/1.png sorted --out {tmp_path / 'no.csv'}")
    assert "'sorted' is a folder" in said
    assert "'gone.png'" in refused(f"predict --checkpoint fifty --data gone.png --out {tmp_path / 'no.csv'}")
    (tmp_path / "some").mkdir()
    for i in (0, 1):
        (tmp_path / "some" / f"{i}.png").write_bytes(Path(f"loose/{i}.png").read_bytes())
    (tmp_path / "some" / "broken.png").write_text("no image")
    line = f"predict --checkpoint fifty --data {tmp_path / 'some'}"
    assert "broken.png" in refused(f"{line} --out {tmp_path / 'no.csv'}")
    assert "--out" in refused(f"{line} --out {tmp_path / 'some' / 'no.csv'}")
    code, _, err = call(f"{line} --skip-broken --out {tmp_path / 'yes.csv'}")
    assert code == 0
    assert "broken.png" in err
    assert "1 of 3" in err
    assert [Path(row["example"]).name for row in read_csv(tmp_path / "yes.csv")] == ["0.png", "1.png"]


def read_rows(tmp_path, given):
    out = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
    jaxdl_command(f"predict --checkpoint fifty --data {given} --out {out}")
    return read_csv(out)


def test_a_temperature_divides_the_logits(home, tmp_path):
    cold, warm = (tmp_path / f"{name}.csv" for name in ("cold", "warm"))
    jaxdl_command(f"predict --checkpoint {home / 'fifty'} --data {home / 'loose'} --out {cold}")
    jaxdl_command(f"predict --checkpoint {home / 'fifty'} --data {home / 'loose'} --temperature 2.5 --out {warm}")
    columns = [f"p:{name}" for name in NAMES[:50]]
    before, after = (np.array([[float(row[c]) for c in columns] for row in read_csv(path)]) for path in (cold, warm))
    tempered = before ** (1 / 2.5)
    np.testing.assert_allclose(after, tempered / tempered.sum(1, keepdims=True), rtol=1e-4)
    assert [row["predicted"] for row in read_csv(cold)] == [row["predicted"] for row in read_csv(warm)]


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf"), "warm", True])
def test_what_is_no_temperature_is_refused(home, temperature):
    predictions = jaxdl.predict(jaxdl.restore(home / "fifty"), home / "loose")
    with pytest.raises(InputError, match="temperature is"):
        predictions.at_temperature(temperature)
