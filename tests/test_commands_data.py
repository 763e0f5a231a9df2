"""Data of every kind through the commands: tables of numbers and of images, broken files, streaming."""

import contextlib
import json
import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from command_line import call, jaxdl_command, read_csv, refused
from PIL import Image
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import GroupKFold, KFold

import jaxdl
from jaxdl import data
from jaxdl.data.content import hash_indices
from jaxdl.validation.result import load_result

MLP = "--model mlp --model-arguments hidden=[8]"
CNN = "--model cnn --model-arguments features=[4] hidden=[8]"


def draw(path, label, random, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(random.normal(70 + 110 * label, 25, (*size, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's folder with tables and images."""
    home, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    x = random.normal(size=(48, 3))
    price = 1000 * (x[:, 0] - 2 * x[:, 1]) + 250_000 + 50 * random.normal(size=48)
    rows = [f"{a:.5f},{b:.5f},{p:.3f},{c:.5f}" for (a, b, c), p in zip(x, price, strict=True)]
    (home / "houses.csv").write_text("area,age,price,rooms\n" + "\n".join(rows))
    (home / "moved.csv").write_text("price,rooms,area,age\n" + "\n".join(_turned(row) for row in rows))
    (home / "new.csv").write_text("area,age,rooms\n0.5,0.25,1\n-1,0,2\n")
    stars = [f"{a:.5f},{int(a > 0) + int(a > 0.7) + 1}" for a in x[:, 0]]
    (home / "stars.csv").write_text("a,target\n" + "\n".join(stars))
    lines = []
    for i in range(24):
        draw(home / "scans" / f"scan {i}.png", i % 2, random)
        lines.append(f"scans/scan {i}.png,{'sick' if i % 2 else 'well'},patient {i // 4},2024-01-{1 + (7 * i) % 24:02}")
    (home / "scans.csv").write_text("file,label,group,time\n" + "\n".join(lines))
    for label, name in enumerate(("ants", "bees")):
        for i in range(9):
            draw(home / "photos" / name / f"{i}.jpg", label, random, (12, 10))
    with contextlib.chdir(home):
        jaxdl_command(f"pretrain {MLP} --data houses.csv:price --epochs 40 --learning-rate 0.03 --out priced")
    return home


def _turned(row):
    area, age, price, rooms = row.split(",")
    return ",".join((price, rooms, area, age))


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


# Tables of numbers


def test_a_regression_is_trained_and_predicts_numbers(tmp_path):
    card = jaxdl.restore("priced").card
    assert card.class_names == ()
    assert card.columns == ("area", "age", "rooms")
    prices = np.array([float(row["price"]) for row in read_csv("houses.csv")])
    np.testing.assert_allclose(card.targets["scaling"], [prices.mean(), prices.std()], rtol=1e-5)

    said = jaxdl_command(f"predict --checkpoint priced --data houses.csv:price --out {tmp_path / 'p.csv'}")
    rows = read_csv(tmp_path / "p.csv")
    assert list(rows[0]) == ["example", "predicted", "label", "trained on"]
    assert [row["example"] for row in rows] == [str(i) for i in range(48)]
    told, found = ([float(row[name]) for row in rows] for name in ("label", "predicted"))
    np.testing.assert_allclose(told, prices, rtol=1e-6)
    measured = dict(re.findall(r"(\w+) ([-\d.e+]+)", said.splitlines()[-1].partition(": ")[2]))
    assert set(measured) == {"r2", "mse", "mae"}
    assert float(measured["r2"]) == pytest.approx(r2_score(told, found), abs=1e-4)
    assert float(measured["mse"]) == pytest.approx(mean_squared_error(told, found), rel=1e-3)
    assert float(measured["mae"]) == pytest.approx(mean_absolute_error(told, found), rel=1e-3)
    assert float(measured["r2"]) > 0.9
    assert "accuracy" not in said


def test_predictions_follow_the_names_of_columns(tmp_path):
    for spec in ("houses.csv:price", "moved.csv:price"):
        jaxdl_command(f"predict --checkpoint priced --data {spec} --out {tmp_path / spec[:5]}.csv")
    assert (tmp_path / "moved.csv").read_text() == (tmp_path / "house.csv").read_text()
    said = jaxdl_command(f"predict --checkpoint priced --data new.csv --out {tmp_path / 'new.csv'}")
    assert "2 predictions in " in said
    assert said.count("\n") == 3
    assert list(read_csv(tmp_path / "new.csv")[0]) == ["example", "predicted"]
    said = refused(f"predict --checkpoint priced --data stars.csv --out {tmp_path / 'no.csv'}")
    assert "age, area, rooms" in said


def test_a_regression_prints_what_it_measures(tmp_path):
    said = jaxdl_command(
        f"pretrain {MLP} --data houses.csv:price --epochs 2 --validation-fraction 0.25 --out {tmp_path / 'new'}"
    )
    assert re.search(r"^training: mae [\d.]+, mse [\d.e+]+$", said, re.MULTILINE)
    assert re.search(r"^held out: mae [\d.]+, mse [\d.e+]+, r2 -?[\d.]+$", said, re.MULTILINE)
    assert "regression; input 3 float32\ncolumns: area, age, rooms\n" in jaxdl_command("inspect priced")


def test_a_regression_is_cross_validated(tmp_path):
    said = jaxdl_command(
        f"cross-validate --init priced --data houses.csv:price --epochs 3 --folds 3 --seed 2 --out {tmp_path / 'run'}"
    )
    result = load_result(tmp_path / "run")
    assert (result.task, result.metric, result.split["kind"]) == ("regression", "r2", "kfold")
    parts = [part for pair in KFold(3, shuffle=True, random_state=2).split(np.zeros(48)) for part in pair]
    assert result.split["sha256"] == hash_indices(parts)
    rows = result.out_of_fold
    for fold in result.folds:
        mine = rows.fold == fold["fold"]
        for name, measure in (("r2", r2_score), ("mse", mean_squared_error), ("mae", mean_absolute_error)):
            assert fold[name] == pytest.approx(
                measure(*(part.astype(float) for part in (rows.target[mine], rows.kept[mine, 0]))), rel=1e-9
            )
        assert f"fold {fold['fold']}: r2 {fold['r2']:.3f}, loss " in said
    assert result.mean == pytest.approx(np.mean([fold["r2"] for fold in result.folds]))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Confusion" not in page
    assert "MAE" in page or "mae" in page


@pytest.mark.slow
def test_the_task_of_a_table_can_be_said(tmp_path):
    for asked, task in {"auto": "classification", "regression": "regression"}.items():
        out = tmp_path / asked
        line = f"cross-validate {MLP} --data stars.csv --feature a --epochs 1 --folds 2 --task {asked} --out {out}"
        jaxdl_command(line)
        result = load_result(out)
        assert result.task == task
        assert list(result.class_names) == (["1", "2", "3"] if task == "classification" else [])
        assert json.loads((out / "run.json").read_text())["task"] == asked
    page = tmp_path / "regression" / "report.html"
    size = len(page.read_text())
    for options in ("", "--data stars.csv --task regression"):
        page.unlink()
        jaxdl_command(f"report {tmp_path / 'regression'} {options}")  # finds the data again as it was taken
        assert len(page.read_text()) == pytest.approx(size, rel=0.02)
    assert "give the one that it was made on" in refused(f"report {tmp_path / 'regression'} --data stars.csv")
    jaxdl_command(f"pretrain {MLP} --data stars.csv --epochs 1 --task regression --out {tmp_path / 'starred'}")
    said = jaxdl_command(f"predict --checkpoint {tmp_path / 'starred'} --data stars.csv --out {tmp_path / 'p.csv'}")
    assert "r2" in said
    assert {row["label"] for row in read_csv(tmp_path / "p.csv")} == {"1.0", "2.0", "3.0"}
    said = jaxdl_command(
        f"finetune --init {tmp_path / 'starred'} --data stars.csv --epochs 1 --out {tmp_path / 'told'}"
    )
    assert "accuracy" in said  # another task takes a fresh head
    assert jaxdl.restore(tmp_path / "told").card.class_names == ("1", "2", "3")


def test_the_task_of_arrays_can_be_said(tmp_path):
    x = np.random.default_rng(0).normal(size=(16, 2))
    for y, task in ((np.arange(16) % 3, "regression"), (np.arange(16) % 3.0, "classification")):
        np.savez(tmp_path / "a.npz", x=x, y=y)
        out = tmp_path / task
        jaxdl_command(f"pretrain {MLP} --data {tmp_path / 'a.npz'} --epochs 1 --task {task} --out {out}")
        assert jaxdl.restore(out).card.class_names == ({"regression": (), "classification": ("0", "1", "2")}[task])


# Tables of images


@pytest.mark.slow
def test_images_of_a_group_stay_together(tmp_path):
    options = f"--data scans.csv --epochs 1 --folds 3 --splitter group --allow times --out {tmp_path / 'run'}"
    said = jaxdl_command(f"cross-validate {CNN} {options}")
    assert "Caution: groups" not in said
    result = load_result(tmp_path / "run")
    groups = np.arange(24) // 4
    parts = [part for pair in GroupKFold(3, shuffle=True, random_state=0).split(groups, groups=groups) for part in pair]
    assert result.split["sha256"] == hash_indices(parts)
    assert result.split["kind"] == "group"
    belongs = [set(groups[result.out_of_fold.index[result.out_of_fold.fold == fold]]) for fold in range(3)]
    assert sum(map(len, belongs)) == len(set.union(*belongs)) == 6
    assert list(result.class_names) == ["sick", "well"]
    mixed = (
        f"cross-validate {CNN} --data scans.csv --epochs 1 --folds 2 --out {tmp_path / 'mixed'} --splitter stratified"
    )
    said = refused(f"{mixed} --allow times")
    assert "groups: 24 examples are tested of a group that the same fold trains on (of 6 groups: " in said
    assert not (tmp_path / "mixed").exists()
    assert "Caution: groups: 24 examples" in jaxdl_command(f"{mixed} --allow groups times")
    assert "Did you mean 'groups'" in refused(f"{mixed} --allow group")


@pytest.mark.slow
def test_images_of_a_table_in_the_order_of_time(tmp_path):
    options = f"--data scans.csv --epochs 1 --folds 3 --splitter time-series --allow groups --out {tmp_path / 'run'}"
    jaxdl_command(f"cross-validate {CNN} {options}")
    days, rows = np.array([(7 * i) % 24 for i in range(24)]), load_result(tmp_path / "run").out_of_fold
    tested = [days[rows.index[rows.fold == fold]] for fold in range(3)]
    assert tested[0].max() < tested[1].min()
    assert tested[1].max() < tested[2].min()


def test_images_of_a_table_are_predicted_by_name(tmp_path):
    jaxdl_command(f"pretrain {CNN} --data scans.csv --epochs 2 --out {tmp_path / 'new'}")
    said = jaxdl_command(f"predict --checkpoint {tmp_path / 'new'} --data scans.csv --out {tmp_path / 'p.csv'}")
    rows = read_csv(tmp_path / "p.csv")
    assert [row["example"] for row in rows] == [row["file"] for row in read_csv("scans.csv")]
    assert list(rows[0]) == ["example", "predicted", "confidence", "label", "trained on", "p:sick", "p:well"]
    accuracy = np.mean([row["label"] == row["predicted"] for row in rows])
    assert f"accuracy {accuracy:.4f}, loss " in said


def test_rows_count_by_a_column_in_training(tmp_path, monkeypatch):
    """Those of weight 0 as if they were not there; the table of images, too."""
    monkeypatch.chdir(tmp_path)
    rows, random = ["a,b,counts,y"], np.random.default_rng(0)
    for i in range(24):
        rows.append(",".join(f"{value:.4f}" for value in (*random.normal(size=2), i % 3 > 0, random.normal())))
    Path("all.csv").write_text("\n".join(rows))
    Path("some.csv").write_text("\n".join(row for i, row in enumerate(rows) if i == 0 or (i - 1) % 3))
    options = f"{MLP} --epochs 2 --batch-size 24 --weight counts --out"
    for name in ("all", "some"):
        jaxdl_command(f"pretrain --data {name}.csv {options} {name}")
    made = [jaxdl.restore(name) for name in ("all", "some")]
    assert made[0].card.columns == ("a", "b")
    for one, two in zip(*(jax.tree.leaves(each.variables) for each in made), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    assert "--weight is for tables" in refused(f"pretrain --data digits {options} no")
    source = data.csv("all.csv", weight="counts")
    draw(tmp_path / "one.png", 0, random)
    draw(tmp_path / "two.png", 1, random)
    Path("images.csv").write_text("file,label,w\none.png,a,2\ntwo.png,b,0.5")
    assert data.csv("images.csv", weight="w").weights.tolist() == [2, 0.5]
    assert source.weights.sum() == 16


# Files that cannot be read


@pytest.fixture
def broken(tmp_path):
    """A folder of photographs of which two cannot be read."""
    random = np.random.default_rng(1)
    for label, name in enumerate(("ants", "bees")):
        for i in range(6):
            draw(tmp_path / "album" / name / f"{i}.jpg", label, random, (40, 40))
    cut = tmp_path / "album" / "bees" / "3.jpg"
    cut.write_bytes(cut.read_bytes()[:700])
    (tmp_path / "album" / "ants" / "5.jpg").write_bytes(b"no image")
    return tmp_path / "album"


COMMANDS = {
    "pretrain": f"pretrain {CNN} --epochs 1 --image-size 8",
    "cross-validate": f"cross-validate {CNN} --epochs 1 --image-size 8 --folds 2",
}


@pytest.mark.parametrize("stream", ["never", pytest.param("always --workers 0", marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", COMMANDS)
def test_broken_files_are_named_or_skipped(tmp_path, broken, command, stream):
    line = f"{COMMANDS[command]} --data {broken} --stream {stream} --out {tmp_path / 'run'}"
    said = refused(line)
    assert "album/ants/5.jpg' cannot be read" in said or "album/bees/3.jpg' cannot be read" in said
    assert os.listdir(tmp_path) == ["album"]

    code, out, err = call(f"{line} --skip-broken")
    assert code == 0, err
    names = [f"{broken}/ants/5.jpg", f"{broken}/bees/3.jpg"]
    assert [line.split(": ")[0] for line in err.splitlines() if line.startswith("skipped")] == [
        f"skipped {name}" for name in names
    ]
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [name for name, _ in told["broken"]] == names
    assert all("cannot be read" in reason and "remove" not in reason for _, reason in told["broken"])
    assert "remove" not in err
    assert told["settings"]["data"]["examples"] == 10
    if command == "cross-validate":
        assert len(load_result(tmp_path / "run").out_of_fold.index) == 10
        page = (tmp_path / "run" / "report.html").read_text()
        assert "5.jpg" in page
    code, out, err = call(f"{line} --skip-broken")
    assert (code, "is finished" in out) == (0, True)


def test_broken_files_among_those_held_out(tmp_path, broken):
    (tmp_path / "split").mkdir()
    broken.rename(tmp_path / "split" / "val")
    random = np.random.default_rng(2)
    for label, name in enumerate(("ants", "bees")):
        for i in range(4):
            draw(tmp_path / "split" / "train" / name / f"{i}.jpg", label, random)
    line = f"{COMMANDS['pretrain']} --data {tmp_path / 'split'} --out {tmp_path / 'run'}"
    assert "val/ants/5.jpg' cannot be read" in refused(line) or "val/bees/3.jpg" in refused(line)
    assert call(f"{line} --skip-broken")[0] == 0
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [Path(name).parts[-3:] for name, _ in told["broken"]] == [("val", "ants", "5.jpg"), ("val", "bees", "3.jpg")]
    assert told["settings"]["held_out"] == 10


@pytest.fixture(scope="module")
def plain_network(home, tmp_path_factory):
    made, photos = tmp_path_factory.mktemp("made") / "network", jaxdl.data.folder(home / "photos")
    jaxdl.save(jaxdl.pretrain(jaxdl.create("cnn", 2, features=(4,)), photos, jaxdl.Plan(epochs=1)), made)
    return made


@pytest.mark.parametrize("command", ["split", "find-lr", "probe", "show"])
def test_what_reads_images_without_training_skips_broken_ones_too(tmp_path, broken, plain_network, command):
    line = {
        "split": f"split --folds 2 --splitter leave-one-out --out {tmp_path / 'made'}",
        "find-lr": f"find-lr {CNN} --image-size 8 --steps 12 --out {tmp_path / 'made.png'}",
        "probe": f"probe --init {plain_network} --heads ridge --folds 2 --inner-folds 2 --out {tmp_path / 'made'}",
        "show": f"show --count 12 --image-size 8 --out {tmp_path / 'made.png'}",
    }[command]
    if command != "split":  # which reads no image but for its picture
        assert "cannot be read" in refused(f"{line} --data {broken}")
        assert os.listdir(tmp_path) == ["album"]
    code, out, err = call(f"{line} --data {broken} --skip-broken")
    assert code == 0, err
    for name in (f"{broken}/ants/5.jpg", f"{broken}/bees/3.jpg"):
        assert f"skipped {name}: " in err
    if command == "show":
        assert "10 images before and after" in out
    if command == "split":
        assert "10 folds" in out
    if command == "probe":
        assert load_result(tmp_path / "made" / "ridge").data["examples"] == 10
        assert jaxdl_command(f"report {tmp_path / 'made' / 'ridge'}")
        page = (tmp_path / "made" / "ridge" / "report.html").read_text()
        assert "cannot be shown" not in page
        assert "2 that cannot be read" in page


def test_nothing_is_skipped_where_all_is_whole(tmp_path):
    code, _, err = call(f"{COMMANDS['pretrain']} --data photos --skip-broken --out {tmp_path / 'run'}")
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["broken"] == []


def test_a_class_of_which_nothing_can_be_read(tmp_path, broken):
    for path in (broken / "bees").iterdir():
        path.write_bytes(b"no image")
    said = refused(f"{COMMANDS['pretrain']} --data {broken} --skip-broken --out {tmp_path / 'run'}")
    assert "no example of bees in" in said
    assert os.listdir(tmp_path) == ["album"]


# Streaming


@pytest.mark.slow
def test_streamed_and_in_memory_give_the_same(tmp_path):
    logits = {}
    for stream in ("always --workers 0", "never"):
        out = tmp_path / stream.split()[0]
        jaxdl_command(
            f"cross-validate {CNN} --data photos --image-size 8 --epochs 2 --folds 2 --batch-size 8 --augment crop "
            f"--fold-strategy loop --stream {stream} --out {out}"
        )
        result = load_result(out)
        assert bool(result.streamed) == (stream != "never")
        logits[stream] = result.out_of_fold
    one, other = logits.values()
    np.testing.assert_array_equal(one.index, other.index)
    np.testing.assert_allclose(one.kept, other.kept, atol=1e-6)
    assert np.ptp(one.kept) > 0.01


@pytest.mark.slow
def test_streamed_by_worker_processes(tmp_path):
    made = []
    for stream in ("always --workers 1", "never"):
        out = tmp_path / stream.split()[0]
        jaxdl_command(f"pretrain {CNN} --data scans.csv --image-size 8 --epochs 2 --stream {stream} --out {out}")
        made.append(jaxdl.restore(out))
    for row, other in zip(made[0].history, made[1].history, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], abs=1e-6)


# Validation data of a table


@pytest.mark.slow
def test_another_table_measures_the_curves(tmp_path):
    from jaxdl.training.predict import predict

    rows = Path("houses.csv").read_text().splitlines()
    for name, lines in (("first", rows[1:33]), ("second", rows[33:])):
        (tmp_path / f"{name}.csv").write_text("\n".join([rows[0], *lines]))
    parts = ["train" if i < 32 else "val" for i in range(len(rows) - 1)]
    marked = [f"{rows[0]},split", *(f"{row},{part}" for row, part in zip(rows[1:], parts, strict=True))]
    (tmp_path / "both.csv").write_text("\n".join(marked))
    first, second, both = (tmp_path / f"{name}.csv" for name in ("first", "second", "both"))
    options = "--epochs 4 --allow target-columns"
    said = jaxdl_command(f"finetune {MLP} --data {first}:price --validation {second} {options} --out {tmp_path / 'a'}")
    assert f"{second}: it measures the curves" in said
    jaxdl_command(f"finetune {MLP} --data {both}:price {options} --out {tmp_path / 'b'}")
    one, two = (jaxdl.restore(tmp_path / name) for name in "ab")
    held = jaxdl.data.csv(second, "price")
    assert one.card.columns == two.card.columns == ("area", "age", "rooms")
    assert one.card.target == ("price",)
    for network in (one, two):
        scores = predict(network, held).scores
        assert network.history[-1]["test_mae"] == pytest.approx(scores["mae"], rel=1e-4)
    jaxdl_command(f"report {tmp_path / 'a'}")
    message = refused(
        f"finetune {MLP} --data {first}:price --validation {second} --validation-fraction 0.2 --out {tmp_path / 'c'}"
    )
    assert "--validation-fraction" in message


@pytest.mark.parametrize("name", ["time", "group", "per cent"])
def test_what_the_question_on_a_column_offers_works(tmp_path, name):
    table = tmp_path / "t.csv"
    dated = name == "per cent"
    rows = [f"{i / 7},{f'2024-01-{i % 28 + 1:02}' if dated else i % 5},{i * i % 11 / 3}" for i in range(40)]
    table.write_text(f"a,{name},y\n" + "\n".join(rows))
    said = refused(f"split --data {table} --folds 2")
    offers = re.findall(r"--(?:group|time|feature|drop) (?:'[^']+'|\w+)", said)
    assert len(offers) == 4
    for offer in offers:
        assert "columns: target y" in jaxdl_command(f"split --data {table} --folds 2 {offer}")


def test_split_tells_of_columns_that_cross_validate_would_ask_about(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("a,subject#,y\n" + "\n".join(f"{i * i % 17},{i % 8},{i * i % 11 / 3}" for i in range(40)))
    assert "Caution: identity-columns: " in jaxdl_command(f"split --data {table} --folds 2")
    for offer in ("--group subject#", "--feature subject#", "--drop subject#"):
        assert "identity-columns" not in jaxdl_command(f"split --data {table} --folds 2 {offer}")
