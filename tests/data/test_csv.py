"""Tables of numbers and of images: what is taken, and what is refused with which words."""

import csv as standard
import datetime

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_diabetes, load_iris

import jaxdl
from jaxdl import data
from jaxdl.data.folder import ImageFiles
from jaxdl.data.source import Arrays, check_labelled, holds_numbers
from jaxdl.errors import InputError


def written(path, rows, **options):
    with path.open("w", newline="", encoding="utf-8") as file:
        standard.writer(file, **options).writerows(rows)
    return path


@pytest.fixture
def table(tmp_path):
    """A function that writes text or bytes to a file and gives its path."""

    def write(content):
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_iris(tmp_path):
    theirs = load_iris()
    names = theirs.target_names[theirs.target]
    rows = [[*theirs.feature_names, "class"], *([*map(str, x), y] for x, y in zip(theirs.data, names, strict=True))]
    source = data.csv(written(tmp_path / "iris.csv", rows))
    assert isinstance(source, Arrays)
    assert isinstance(source, data.Source)
    np.testing.assert_array_equal(source.x, theirs.data.astype(np.float32))
    np.testing.assert_array_equal(source.labels, theirs.target)
    assert source.labels.dtype == np.int32
    assert source.class_names == ("setosa", "versicolor", "virginica")
    assert (source.groups, source.times, source.name) == (None, None, str(tmp_path / "iris.csv"))
    check_labelled(source, purpose="training")


def test_diabetes(tmp_path):
    theirs = load_diabetes()
    header, values = [*theirs.feature_names, "progression"], np.column_stack([theirs.data, theirs.target])
    np.savetxt(
        tmp_path / "d.csv",
        values,
        delimiter=",",
        header=",".join(header),
        comments="",
    )
    for source in (data.csv(tmp_path / "d.csv", "progression"), data.load(f"{tmp_path}/d.csv:progression")):
        np.testing.assert_array_equal(source.x, theirs.data.astype(np.float32))
        np.testing.assert_array_equal(source.labels, theirs.target.astype(np.float32))
        assert (source.labels.dtype, source.class_names) == (np.float32, ())
        assert holds_numbers(source)
        check_labelled(source, purpose="training")
        part = data.subset(source, [3, 1])
        np.testing.assert_array_equal(part.labels, theirs.target[[3, 1]])
        assert source[3]["y"] == np.float32(theirs.target[3])


PLAIN = "a,b,target\n1,2.5,x\n-3,4e1,y\n5,.5,x\n"
FORMS = {
    "plain": PLAIN,
    "no last newline": PLAIN.rstrip(),
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "windows": PLAIN.replace("\n", "\r\n"),
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "spaces": PLAIN.replace(",", " , "),
    "blank lines": "\n\n" + PLAIN.replace("\n", "\n\n \n"),
    "quotes": '"a","b","target"\n"1",2.5,"x"\n-3,"4e1",y\n5,.5,"x"\n',
    "old mac": PLAIN.replace("\n", "\r"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_one_table(table, form):
    source = data.csv(table(FORMS[form]))
    np.testing.assert_array_equal(source.x, np.float32([[1, 2.5], [-3, 40], [5, 0.5]]))
    np.testing.assert_array_equal(source.labels, [0, 1, 0])
    assert source.class_names == ("x", "y")


def test_quoted_names_and_classes_of_any_script(tmp_path):
    rows = [["Größe, cm", "a;b", "y"], [1, 2, 'say "hi"'], [3, 4, "два\nstrings"], [5, 6, "日本, 東京"]]
    source = data.csv(written(tmp_path / "t t.csv", rows, quoting=standard.QUOTE_ALL))
    assert set(source.class_names) == {'say "hi"', "два\nstrings", "日本, 東京"}
    assert [source.class_names[i] for i in source.labels] == [row[2] for row in rows[1:]]
    np.testing.assert_array_equal(source.x, [[1, 2], [3, 4], [5, 6]])


def test_more_rows_than_are_held_at_a_time(tmp_path):
    x = np.random.default_rng(0).normal(size=(10_001, 2)).astype(np.float32)
    rows = [["u", "v", "y", "group"], *([repr(float(u)), float(v), i % 3, f"g{i}"] for i, (u, v) in enumerate(x))]
    source = data.csv(written(tmp_path / "t.csv", rows))
    np.testing.assert_array_equal(source.x, x)
    np.testing.assert_array_equal(source.labels, np.arange(10_001) % 3)
    assert list(source.groups) == [f"g{i}" for i in range(10_001)]
    rows[9_000][0] = "red"
    with pytest.raises(InputError, match=r"'u' of .* holds 'red', which is no number, on line 9001"):
        data.csv(written(tmp_path / "t.csv", rows))


@pytest.mark.parametrize(
    ("values", "task", "labels", "names"),
    [
        (["10", "9", "9", "10", "9"], "auto", [1, 0, 0, 1, 0], ("9", "10")),  # by size, not as text
        (["1.0", "0", "1", "0.0", "-0"], "auto", [1, 0, 1, 0, 0], ("0", "1")),
        (["1", "2", "3", "4", "5"], "auto", [1, 2, 3, 4, 5], ()),  # as many values as examples
        (["1", "2", "1", "2", "1.5"], "auto", [1, 2, 1, 2, 1.5], ()),
        (["1", "2", "3", "4", "5"], "classification", [0, 1, 2, 3, 4], ("1", "2", "3", "4", "5")),
        (["0.5", "2", "0.50", "1e1", "2"], "classification", [0, 1, 0, 2, 1], ("0.5", "2", "10")),
        (["1", "0", "1", "0", "1"], "regression", [1, 0, 1, 0, 1], ()),
        (["True", "False", "True", "False", "True"], "auto", [1, 0, 1, 0, 1], ("False", "True")),
        (["1", "2", "b", "a", "2"], "auto", [0, 1, 3, 2, 1], ("1", "2", "a", "b")),
        (["none", "some", "none", "some", "-"], "auto", [1, 2, 1, 2, 0], ("-", "none", "some")),
        (["9007199254740993", "9007199254740992"] * 3, "auto", [1, 0] * 3, ("9007199254740992", "9007199254740993")),
    ],
)
def test_the_task_follows_the_target(tmp_path, values, task, labels, names):
    rows = [["x", "y"], *([i, value] for i, value in enumerate(values))]
    source = data.csv(written(tmp_path / "t.csv", rows), task=task)
    np.testing.assert_array_equal(source.labels, labels)
    assert source.class_names == names
    assert source.labels.dtype == (np.int32 if names else np.float32)
    check_labelled(source, purpose="training")


@pytest.mark.parametrize(("different", "classes"), [(20, 20), (21, 0)])
def test_many_different_whole_numbers_are_amounts(tmp_path, different, classes):
    rows = [["x", "y"], *([i, i % different] for i in range(200))]
    assert len(data.csv(written(tmp_path / "t.csv", rows)).class_names) == classes


def test_groups_and_times(tmp_path):
    rows = [["b", "time", "Group", "a", "y"]]
    rows += [[i, f"2024-0{5 - i}-01T0{i}:30", f"p{i % 2}", -i, "uv"[i % 2]] for i in range(4)]
    source = data.csv(written(tmp_path / "t.csv", rows))
    np.testing.assert_array_equal(source.x, [[i, -i] for i in range(4)])
    assert list(source.groups) == ["p0", "p1", "p0", "p1"]
    expected = [datetime.datetime(2024, 5 - i, 1, i, 30) for i in range(4)]
    assert source.times.astype("datetime64[us]").tolist() == expected
    assert np.argsort(source.times).tolist() == [3, 2, 1, 0]
    rows = [["b", "time", "Group", "a", "y"], *([i, 7, 8, -i, "uv"[i % 2]] for i in range(4))]
    source = data.csv(written(tmp_path / "t.csv", rows), group="b", time="a")
    assert list(source.groups) == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(source.times, [0, -1, -2, -3])
    np.testing.assert_array_equal(source.x, [[7, 8]] * 4)  # columns like any other now


@pytest.mark.parametrize(
    ("times", "order"),
    [
        (["10", "9.5", "1e3"], [1, 0, 2]),
        (["2024-05-31", "2023-12-01", "20240601"], [1, 0, 2]),
        (["2024-01-01T12:00+02:00", "2024-01-01T11:00Z", "2024-01-01T05:30-04:00"], [2, 0, 1]),
        (["1890-01-01", "0001-01-01", "9999-12-31"], [1, 0, 2]),
    ],
)
def test_times_have_an_order(tmp_path, times, order):
    rows = [["x", "time", "y"], *([i, time, i] for i, time in enumerate(times))]
    assert np.argsort(data.csv(written(tmp_path / "t.csv", rows)).times).tolist() == order


def test_a_table_without_a_target(table):
    path = table("a,b\n1,2\n3,4\n")
    source = data.csv(path, labelled=False)
    np.testing.assert_array_equal(source.x, [[1, 2], [3, 4]])
    assert (source.labels, source.class_names) == (None, ())
    assert data.load(path, labelled=False).labels is None
    with pytest.raises(InputError, match=r"no column called target, label, class or y; name .* It has: a, b"):
        data.load(path)


WIDE = ",".join(f"c{i}" for i in range(50))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "is empty; expected a line of column names"),
        (" \n\n", {}, "is empty"),
        ('""\n', {}, "column 1 of .* has no name"),
        ("a,y\n", {}, "has column names but no rows"),
        (",a,y\n0,1,2\n", {}, "column 1 of .* has no name; .*index=False"),
        ("a,b,y,b\n1,2,3,4\n", {}, "has two columns called 'b'; rename or remove one"),
        ("a,y\n1,2\n3\n", {}, "line 3 of .* has 1 fields; the first line names 2 columns"),
        ("a,y\n1,2,3\n", {}, "line 2 of .* has 3 fields"),
        ('a,y\n1,2\n"3,4\n', {}, "cannot be read as a table from line 3 on"),
        ("a,y\n1," + "x" * 200_000 + "\n", {}, "cannot be read as a table from line 2 on"),
        ("größe,y\n1,2\n".encode("latin-1"), {}, "is no UTF-8 text .* at byte 2.*; save the table as CSV in UTF-8"),
        ("a,y\n1,2\n".encode("utf-16"), {}, "is no UTF-8 text"),
        (b"PK\x03\x04\xff\x00\x80", {}, "is no UTF-8 text"),
        ("a|y\n1|2\n", {}, r"no column called .* It has: a\|y"),
        ("a|y\n1|2\n", {"labelled": False}, "'a|y' of .* holds '1|2', which is no number"),
        ("y\n1\n2\n", {}, "no columns to learn from; it has: y. Columns are divided by commas, semicolons or tabs"),
        # columns that are not there
        ("size,weight,price\n1,2,3\n", {"target": "pice"}, "no column 'pice'; it has: size, .*Did you mean 'price'?"),
        ("a,price\n1,2\n", {}, r"name the target column, as in .*t\.csv:COLUMN. It has: a, price"),
        ("x,y,label\n1,2,3\n", {}, r"has the columns y, label; say which is the target: .*t\.csv:y"),
        ("a,patient,y\n1,2,3\n", {"group": "patients"}, "no column 'patients'.*mean 'patient'?"),
        ("a,day,y\n1,2,3\n", {"time": "days"}, "no column 'days'.*mean 'day'?"),
        ("a,y\n1,2\n", {"group": "y"}, "the column 'y' of .* cannot be both group and target"),
        ("a,y\n1,2\n", {"task": "regresion"}, "unknown task 'regresion'.*mean 'regression'?"),
        (f"{WIDE}\n{WIDE}\n", {"target": "d"}, r"no column 'd'; it has: c0, c1, .*, c19, … \(50 in all\)"),
        # fields that hold no number
        ("a,b,y\n1,2,0\n3,red,1\n", {}, "the column 'b' of .* holds 'red', which is no number, on line 3; encode text"),
        ("a,b,y\n1,,0\n,2,1\n", {}, r"the column 'b' of .* has no value, on line 2 \(other columns .*: a\)"),
        ("a,b,y\n1,N/A,0\n", {}, r"the column 'b' of .* has no value \('N/A'\), on line 2"),
        ("a,b,y\n1,nan,0\n", {}, r"'b' of .* has no value \('nan'\), on line 2"),
        ("a,b,y\n1,-inf,0\n", {}, "'b' of .* holds -inf, which is not finite as float32, on line 2"),
        ("a,b,y\n1,1e39,0\n", {}, "'b' of .* holds 1e39, which is not finite as float32"),
        ("a;b;y\n1;2,5;0\n", {}, "'b' of .* holds '2,5', which is no number"),
        ("a,b,y\n1,1_000,0\n", {}, "'b' of .* holds '1_000', which is no number"),
        # targets
        ("a,y\n1,2\n2,\n", {}, "the column 'y' of .* has no value, on line 3; fill it or remove the row"),
        ("a,y\n1,b\n2,nan\n", {}, r"the column 'y' of .* has no value \('nan'\), on line 3"),
        (
            "a,y\n1,1.5\n2,n.a.\n",
            {},
            "'y' of .* holds numbers such as 1.5, but on line 3 it holds 'n.a.'",
        ),
        ("a,y\n1,0\n2,NA\n", {}, r"'y' of .* holds numbers such as 0, but on line 3 it has no value \('NA'\)"),
        ("a,y\n1,cat\n", {"task": "regression"}, "'y' of .* holds no numbers, but on line 2 it holds 'cat'"),
        ("a,y\n1,1\n2,inf\n", {}, "the target column 'y' of .* holds inf, which is not finite as float32, on line 3"),
        ("a,y\n1,1\n2,1e39\n", {"task": "regression"}, "'y' of .* holds 1e39, which is not finite"),
        # groups and times
        ("a,group,y\n1,,0\n", {}, "the column 'group' of .* has no value, on line 2"),
        (
            "a,time,y\n1,31.5.2024,0\n",
            {},
            r"'time' of .* holds '31\.5\.2024' on line 2; expected .*, or ISO",
        ),
        ("a,time,y\n1,2024-05-31,0\n1,7,0\n", {}, "'time' of .* holds '7' on line 3"),
        ("a,time,y\n1,2024-05-31T10:00Z,0\n1,2024-05-31,0\n", {}, "holds '2024-05-31' on line 3; .* an offset or none"),
        ("a,time,y\n1,0001-01-01T00:00+10:00,0\n", {}, "holds '0001-01-01T00:00.10:00' on line 2"),
    ],
)
def test_a_table_is_refused(table, content, options, message):
    with pytest.raises(InputError, match=message) as caught:
        data.csv(table(content), **options)
    assert "t.csv" in str(caught.value) or "task" in options
    assert len(str(caught.value)) < 1000


def test_what_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    for spec in ("missing.csv", "missing.csv:price", "missing.csv:train"):
        with pytest.raises(InputError, match=r"there is no file 'missing\.csv'"):
            data.load(spec)
    with pytest.raises(InputError, match=r"there is no file 'folder\.csv'"):
        data.csv("folder.csv")


def test_a_spec_names_file_and_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "t.csv", [["y", "train", "a:b"], [1, 2, 3], [4, 5, 6]])
    for spec, labels in (("t.csv", [1, 4]), ("t.csv:", [1, 4]), ("t.csv:train", [2, 5]), ("t.csv:a:b", [3, 6])):
        np.testing.assert_array_equal(data.load(spec).labels, labels)


# Images by table


@pytest.fixture
def photos(tmp_path):
    """Five images, each of its own red, and a function that writes a table of them."""
    (tmp_path / "deep er").mkdir()
    for i, name in enumerate(["0.png", "1.jpg", "deep er/2.png", "три.png", "4.WEBP"]):
        Image.new("RGB", (6, 4), (50 * i, 0, 0)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path.parent / "outside.png").write_bytes((tmp_path / "0.png").read_bytes())
    return lambda rows: written(tmp_path / "t.csv", rows)


FIVE = ["0.png", "1.jpg", "deep er/2.png", "три.png", "./4.WEBP"]


@pytest.mark.parametrize("column", ["file", "Filename", "path", "image"])
def test_images_by_table(photos, column):
    rows = [["site", column, "label", "group", "time", "note"]]
    rows += [[7, FIVE[i], "ab"[i % 2], f"p{i // 2}", 9 - i, ""] for i in (4, 2, 0, 1, 3)]
    path = photos(rows)
    for source in (data.csv(path), data.load(path)):
        assert isinstance(source, ImageFiles)
        assert isinstance(source, data.Source)
        assert [round(int(source[i]["x"][0, 0, 0]) / 50) for i in range(5)] == [4, 2, 0, 1, 3]
        assert source.class_names == ("a", "b")
        np.testing.assert_array_equal(source.labels, [0, 0, 0, 1, 1])
        assert list(source.groups) == ["p2", "p1", "p0", "p0", "p1"]
        np.testing.assert_array_equal(source.times, [5, 7, 9, 8, 6])
        assert source.names[1] == str(path.parent / "deep er" / "2.png")
    part = data.subset(source, [3, 1])
    assert isinstance(part, ImageFiles)
    assert [round(int(part[i]["x"][0, 0, 0]) / 50) for i in range(2)] == [1, 2]
    assert (list(part.groups), part.times.tolist(), part.labels.tolist()) == (["p0", "p1"], [8, 7], [1, 0])


def test_images_with_numbers_to_regress_on(photos):
    source = data.csv(photos([["file", "age"], *([name, 20.5 + i] for i, name in enumerate(FIVE))]), "age")
    np.testing.assert_array_equal(source.labels, np.float32([20.5, 21.5, 22.5, 23.5, 24.5]))
    assert source.class_names == ()
    assert source[2]["y"] == 22.5


def test_images_without_labels(photos):
    source = data.csv(photos([["file"], *([name] for name in FIVE)]), labelled=False)
    assert (len(source), source.labels) == (5, None)


def test_a_feature_may_be_called_image(tmp_path):
    source = data.csv(written(tmp_path / "t.csv", [["image", "y"], [1.5, "a"], [2.5, "b"]]))
    np.testing.assert_array_equal(source.x, [[1.5], [2.5]])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["0.png", "1.jpg", "0.png"], "names files more than once .*: '0.png' on line 2, '0.png' on line 4"),
        (["0.png", "./0.png", "x/../0.png"], "names files more than once .*: '0.png' on line 2, './0.png' on line 3"),
        (["0.png", "9.png"], "names files that are not in '.*': '9.png' on line 3$"),
        ([f"{i}.png" for i in range(9)], "not in '.*': '1.png' on line 3, '2.png' on line 4, '3.png' .* and 5 more$"),
        (["0.png", "../outside.png"], r"names files outside the table's folder.*: '\.\./outside.png' on line 3"),
        (["0.png", "deep er/../../outside.png"], "names files outside the table's folder"),
        (["0.png", "/etc/passwd.png"], "names files outside the table's folder, by an absolute path"),
        (["0.png", ".."], "names files outside"),
        (["0.png", "notes.txt", "a.gif"], "no images of a kind that is read .*: 'notes.txt' on line 3, 'a.gif' on"),
        (["0.png", "deep er"], "no images of a kind that is read"),
        (["0.png", ""], "the column 'file' of .* has no value, on line 3"),
        (["0.png", "\0.png"], "names files that are not in"),
        (["0.png", "a" * 5000 + ".png"], "names files that are not in"),
    ],
)
def test_a_table_of_images_is_refused(photos, files, message):
    with pytest.raises(InputError, match=message) as caught:
        data.csv(photos([["file", "y"], *([name, i % 2] for i, name in enumerate(files))]))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([1.5, np.nan, np.inf], (), "2 labels of arrays are NaN or infinity, the first at index 1"),
        ([1.5], (), "arrays holds a single example; training needs at least two"),
        ([0.0, 1.0], ("a", "b"), "the labels of arrays are float32 but it names classes"),
    ],
)
def test_numbers_that_cannot_be_regressed_on(labels, names, message):
    source = Arrays(np.zeros((len(labels), 2), np.float32), np.float32(labels), names)
    with pytest.raises(InputError, match=message):
        check_labelled(source, purpose="training")


def test_columns_in_another_order_are_put_in_the_networks_own(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 3))
    y = np.where(x[:, 0] > 0, "yes", "no")
    for name, order in (("abc", (0, 1, 2)), ("cab", (2, 0, 1))):
        rows = [",".join([*name, "y"])] + [
            ",".join([*(repr(float(v)) for v in row[list(order)]), label]) for row, label in zip(x, y, strict=True)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(rows))
    (tmp_path / "abd.csv").write_text((tmp_path / "abc.csv").read_text().replace("c,y", "d,y"))
    abc, cab, abd = (data.csv(tmp_path / f"{name}.csv") for name in ("abc", "cab", "abd"))
    parent = jaxdl.pretrain(jaxdl.create("mlp", 2, hidden=(4,)), abc, jaxdl.Plan(epochs=2))
    parent = jaxdl.restore(jaxdl.save(parent, tmp_path / "parent"))
    assert parent.card.columns == ("a", "b", "c")
    np.testing.assert_array_equal(jaxdl.predict(parent, abc).logits, jaxdl.predict(parent, cab).logits)
    with pytest.raises(InputError, match="it lacks c, and d are not known"):
        jaxdl.predict(parent, abd)
    plan = jaxdl.Plan(epochs=1)
    same = [jaxdl.cross_validate(parent, s, plan, folds=2).out_of_fold.logits for s in (abc, cab)]
    np.testing.assert_array_equal(*same)
    tuned = [jaxdl.predict(jaxdl.finetune(parent, s, plan), abc).logits for s in (abc, cab)]
    np.testing.assert_array_equal(*tuned)
