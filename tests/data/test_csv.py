"""Tables of numbers and of images: what is read, and what is refused by naming file, column, line and value."""

import csv as standard
import datetime

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import PredefinedSplit

import jaxdl
from jaxdl import data
from jaxdl.data.folder import ImageFiles
from jaxdl.data.source import Arrays
from jaxdl.errors import InputError
from jaxdl.report.run import how_read
from jaxdl.tasks import choose_task
from jaxdl.validation.splits import split_source


def refused(read, *named):
    """Calls `read`, which has to raise an InputError of moderate length that names these things."""
    with pytest.raises(InputError) as caught:
        read()
    said = str(caught.value)
    assert [name for name in named if str(name) not in said] == [], said
    assert len(said) < 1000


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
    assert choose_task(source, purpose="training").names == source.class_names


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
        assert choose_task(source, purpose="training").name == "regression"
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


def test_a_long_table_is_as_pandas_wrote_it(tmp_path):
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "u": random.normal(size=10_001) * 10.0 ** random.integers(-20, 20, 10_001),
            "group": [f"g{i}" for i in range(10_001)],
            "y": random.choice(["red", "green", "blue"], 10_001),
            "v": [i if i % 2 else i / 3 for i in range(10_001)],
            "w": [str(i % 7) for i in range(10_001)],
        }
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    source = data.csv(tmp_path / "t.csv")
    np.testing.assert_array_equal(source.x, table[["u", "v", "w"]].to_numpy(np.float32))
    np.testing.assert_array_equal(source.labels, pd.Categorical(table["y"]).codes)
    assert source.class_names == ("blue", "green", "red")
    assert source.columns == ("u", "v", "w")
    np.testing.assert_array_equal(source.groups, table["group"])
    table.loc[8_999, "w"] = "many"
    table.to_csv(tmp_path / "t.csv", index=False)
    refused(lambda: data.csv(tmp_path / "t.csv"), tmp_path / "t.csv", "'w'", "'many'", "line 9001")


def test_a_line_is_counted_as_an_editor_does(table):
    path = table('\n"a\nb",y\n\n1,"two\nlines"\n \n\n2,x\nred,x\n')
    refused(lambda: data.csv(path), "t.csv", "'a\nb'", "'red'", "line 10")


@pytest.mark.parametrize(
    ("values", "task", "labels", "names"),
    [
        (["10", "9", "9", "10", "9"], "auto", [1, 0, 0, 1, 0], ("9", "10")),  # by size, not as text
        (["01", "10", "02", "10", "02", "01", "01"], "auto", [0, 2, 1, 2, 1, 0, 0], ("01", "02", "10")),
        (["7", "007", "7", "007", "7"], "auto", [1, 0, 1, 0, 1], ("007", "7")),  # codes: two classes
        (["1.0", "0.0", "1.0", "0.0", "0.0"], "auto", [1, 0, 1, 0, 0], ("0.0", "1.0")),
        (["1", "2", "3", "4", "5"], "auto", [1, 2, 3, 4, 5], ()),  # as many values as examples
        (["1", "2", "1", "2", "1.5"], "auto", [1, 2, 1, 2, 1.5], ()),
        (["1", "2", "3", "4", "5"], "classification", [0, 1, 2, 3, 4], ("1", "2", "3", "4", "5")),
        (["0.5", "2", "0.50", "1e1", "2"], "classification", [0, 2, 1, 3, 2], ("0.5", "0.50", "2", "1e1")),
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
    assert choose_task(source, purpose="training").name == ("classification" if names else "regression")


@pytest.mark.parametrize(("different", "classes"), [(20, 20), (21, 0)])
def test_many_different_whole_numbers_are_amounts(tmp_path, different, classes):
    rows = [["x", "y"], *([i, i % different] for i in range(200))]
    assert len(data.csv(written(tmp_path / "t.csv", rows)).class_names) == classes


def test_groups_and_times(tmp_path):
    rows = [["b", "time", "Group", "a", "y"]]
    rows += [[i, f"2024-0{5 - i}-01T0{i}:30", f"p{i % 2}", -i, "uv"[i % 2]] for i in range(4)]
    source = data.csv(written(tmp_path / "t.csv", rows))  # Group holds words, time dates
    np.testing.assert_array_equal(source.x, [[i, -i] for i in range(4)])
    assert list(source.groups) == ["p0", "p1", "p0", "p1"]
    expected = [datetime.datetime(2024, 5 - i, 1, i, 30) for i in range(4)]
    assert source.times.astype("datetime64[us]").tolist() == expected
    assert np.argsort(source.times).tolist() == [3, 2, 1, 0]
    rows = [["b", "time", "Group", "a", "y"], *([i, 7, 8, -i, "uv"[i % 2]] for i in range(4))]
    source = data.csv(written(tmp_path / "t.csv", rows), group="b", time="a", feature=["time", "Group"])
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
    assert np.argsort(data.csv(written(tmp_path / "t.csv", rows), time="time").times).tolist() == order


def test_a_table_without_a_target(table):
    path = table("a,b\n1,2\n3,4\n")
    source = data.csv(path, labelled=False)
    np.testing.assert_array_equal(source.x, [[1, 2], [3, 4]])
    assert (source.labels, source.class_names) == (None, ())
    assert data.load(path, labelled=False).labels is None
    refused(lambda: data.load(path), "t.csv", "target, label, class or y", "a, b")


WIDE = ",".join(f"c{i}" for i in range(50))


@pytest.mark.parametrize(
    ("content", "options", "named"),
    [
        ("", {}, ["empty"]),
        (" \n\n", {}, ["empty"]),
        ('""\n', {}, ["column 1"]),
        ("a,y\n", {}, ["no rows"]),
        ("a,,y\n0,1,2\n", {}, ["column 2", "index=False"]),
        (",,y\n0,1,2\n", {}, ["column 2", "index=False"]),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", {}, ["5.1, 3.5, setosa", "--header no", "header=False"]),
        ("a,b,y,b\n1,2,3,4\n", {}, ["two columns", "'b'"]),
        ("a,y\n1,2\n3\n", {}, ["line 3", "1 fields", "2 columns"]),
        ("a,y\n1,2\n3,\n", {}, ["'y'", "no value", "line 3"]),
        ('a,y\n1,2\n" "\n', {}, ["quoted spaces"]),
        ("a,y\n1,2\n\u00a0\n", {}, ["line 3", "1 fields"]),
        ("a,y\n1,2,3\n", {}, ["line 2", "3 fields"]),
        ("a,y\n1,2\n\n3,4,\n", {}, ["line 4", "3 fields"]),
        ("a,y\n1,2,\n3,4,\n", {}, ["line 2", "3 fields"]),
        ('a,y\n1,2\n"3,4\n', {}, ["line 3"]),
        ('a,y\n1,"2\n', {}, ["line 2"]),
        ("größe,y\n1,2\n".encode("latin-1"), {}, ["UTF-8", "byte 2"]),
        (b"a,y\n" + b"1,2\n" * 100_000 + b"1,\xff\n", {}, ["UTF-8", "byte 400006"]),
        (b"\xef\xbb\xbfa,y\n1,\xff\n", {}, ["UTF-8", "byte 9"]),
        ("a,y\n1,2\n".encode("utf-16"), {}, ["UTF-8", "byte 0"]),
        (b"PK\x03\x04\xff\x00\x80", {}, ["UTF-8", "byte 4"]),
        ("a/y\n1/2\n", {}, ["a/y"]),
        ("y\n1\n2\n", {}, ["no columns to learn from", "commas, semicolons, tabs, bars or spaces"]),
        # columns that are not there
        ("size,weight,price\n1,2,3\n", {"target": "pice"}, ["'pice'", "size, weight", "Did you mean 'price'?"]),
        ("a,price\n1,2\n", {}, ["t.csv:COLUMN", "a, price"]),
        ("x,y,label\n1,2,3\n", {}, ["y, label", "t.csv:y"]),
        ("a,patient,y\n1,2,3\n", {"group": "patients"}, ["'patients'", "mean 'patient'?"]),
        ("a,day,y\n1,2,3\n", {"time": "days"}, ["'days'", "mean 'day'?"]),
        ("a,y\n1,2\n", {"group": "y"}, ["'y'", "both group and target"]),
        (f"{WIDE}\n{WIDE}\n", {"target": "d"}, ["'d'", "c19, …", "50 in all"]),
        # features that are no numbers
        ("a,b,y\n1,2,0\n3,red,1\n", {}, ["'b'", "'red'", "line 3"]),
        ("a,b,y\n1,N/A,0\n2,,0\n", {}, ["'b'", "no value at all", "--drop b"]),
        ("a,b,y\n1,-inf,0\n", {}, ["'b'", "-inf", "finite", "line 2"]),
        ("a,b,y\n1,1e39,0\n", {}, ["'b'", "1e39", "finite", "line 2"]),
        (f"a,b,y\n1,{'9' * 5000},0\n", {}, ["'b'", "99999", "line 2"]),
        ('a,b,y\n1,"2,5",0\n', {}, ["'b'", "'2,5'", "line 2"]),
        ("a,b,y\n1,5 %,0\n", {}, ["'b'", "'5 %'", "line 2"]),
        ("a,b,y\n1,1_000,0\n", {}, ["'b'", "'1_000'", "line 2"]),
        ("a,b,y\n1,1\0" + "5,0\n", {}, ["'b'", "line 2"]),
        # targets
        ("a,y\n1,b\n2,nan\n", {}, ["'y'", "no value", "'nan'", "line 3"]),
        ("a,y\n1,1.5\n2,n.a.\n", {}, ["'y'", "'n.a.'", "line 3"]),
        ("a,y\n1,0\n2,NA\n", {}, ["'y'", "no value", "'NA'", "line 3"]),
        ("a,y\n1,0\n2,?\n", {"task": "classification"}, ["'y'", "no value", "'?'", "line 3"]),
        ("a,y\n1,cat\n", {"task": "regression"}, ["'y'", "'cat'", "line 2"]),
        ("a,y\n1,1\n1,1\n1,1\n2,inf\n", {}, ["'y'", "inf", "finite", "line 5"]),
        ("a,y\n1,1\n2,1e39\n", {"task": "regression"}, ["'y'", "1e39", "finite", "line 3"]),
        ("a,y\n" + "".join(f'{i / 7},"{i},5"\n' for i in range(60)), {}, ["60 different texts", "classification"]),
        # groups and times
        ("a,group,y\n" + "1,2,0\n" * 9, {}, ["'group'", "--group group", "--feature group", "--drop group", "drop=["]),
        ("a,time,y\n" + "".join(f"1,{i},0\n" for i in range(20)), {}, ["'time'", "--time time", "feature=['time']"]),
        ("a,seen,y\n1,2024-05-31,0\n2,2024-06-01,1\n", {}, ["'seen'", "dates", "'2024-05-31'", "--time seen"]),
        ("a,b,y\n1,2,3\n", {"group": "b", "drop": ["b"]}, ["'b'", "both group and drop"]),
        ("a,b,y\n1,2,3\n", {"drop": ["y"]}, ["t.csv:COLUMN"]),
        ("a,b,y\n1,2,3\n", {"drop": ["c"]}, ["'c'", "a, b, y"]),
        # texts that are no categories
        ("a,b,y\n" + "".join(f"1,name {i},0\n" for i in range(50)), {}, ["'b'", "50 different texts", "--drop b"]),
        ("a,group,y\n1,,0\n", {}, ["'group'", "no value", "line 2"]),
        ("a,time,y\n1,31.5.2024,0\n", {}, ["'time'", "'31.5.2024'", "line 2", "ISO"]),
        ("a,time,y\n1,2024-05-31,0\n1,7,0\n", {}, ["'time'", "'7'", "line 3"]),
        ("a,time,y\n1,2024-05-31T10:00Z,0\n1,2024-05-31,0\n", {}, ["'2024-05-31'", "line 3", "offset"]),
        ("a,time,y\n1,0001-01-01T00:00+10:00,0\n", {}, ["'0001-01-01T00:00+10:00'", "line 2"]),
    ],
)
def test_a_table_is_refused(table, content, options, named):
    refused(lambda: data.csv(table(content), **options), "t.csv", *named)


def test_an_unknown_task_is_refused(table):
    for read in (data.csv, data.load):
        refused(lambda read=read: read(table("a,y\n1,2\n"), task="regresion"), "'regresion'", "mean 'regression'?")


def test_what_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    for spec in ("missing.csv", "missing.csv:price", "missing.csv:train"):
        refused(lambda spec=spec: data.load(spec), "'missing.csv'")
    refused(lambda: data.csv("folder.csv"), "'folder.csv'")


# Several target columns


@pytest.mark.parametrize("task", ["auto", "multilabel"])
@pytest.mark.parametrize(
    "write", [int, float, bool, lambda v: str(bool(v)).lower()], ids=["0", "0.0", "False", "false"]
)
def test_several_target_columns_are_labels(tmp_path, task, write):
    truth = np.random.default_rng(0).integers(0, 2, (30, 3))
    table = pd.DataFrame({name: [write(v) for v in truth[:, i]] for i, name in enumerate(["sea", "sky", "red sun"])})
    table.insert(1, "a", np.arange(30) / 7)
    table["y"] = range(30, 0, -1)  # a feature like any other
    path = tmp_path / "t.csv"
    table.to_csv(path, index=False)
    sources = (
        data.csv(path, ["sea", "sky", "red sun"], task=task),
        data.csv(path, "sea,sky,red sun", task=task),
        data.load(f"{path}:sea,sky,red sun", task=task),
    )
    for source in sources:
        assert source.labels.dtype == np.uint8
        np.testing.assert_array_equal(source.labels, truth)
        assert source.class_names == ("sea", "sky", "red sun")
        np.testing.assert_array_equal(source.x, table[["a", "y"]].to_numpy(np.float32))
        assert source.columns == ("a", "y")
        np.testing.assert_array_equal(source[3]["y"], truth[3])
    np.testing.assert_array_equal(data.csv(path, ["red sun", "sea", "sky"]).labels, truth[:, [2, 0, 1]])


def test_a_name_with_a_comma_is_one_column(tmp_path):
    path = written(tmp_path / "t.csv", [["p,q", "p", "q", "x"], ["u", 1, 0, 5], ["v", 0, 1, 6]])
    assert data.load(f"{path}:p,q").class_names == ("u", "v")
    assert data.csv(path, ["p", "q"], text="p,q").class_names == ("p", "q")


@pytest.mark.parametrize(
    ("content", "options", "named"),
    [
        ("x,A,B\n1,0,1\n2,1,2\n", {}, ["'B'", "'2'", "line 3"]),
        ("x,A,B\n1,0,1\n2,1,yes\n", {}, ["'B'", "'yes'", "line 3"]),
        ("x,A,B\n1,0,1\n2,,0\n", {}, ["'A'", "no value", "line 3"]),
        ("x,A,B\n1,0.5,1.5\n2,1.25,2\n", {"task": "multilabel"}, ["'A'", "'0.5'", "line 2", "multitarget"]),
        ("x,A,B\n1,0.5,1.5\n2,much,2\n", {"task": "multitarget"}, ["'A'", "'much'", "line 3", "no number"]),
        ("x,A,B\n1,0,1\n2,1,1\n", {"task": "regression"}, ["task multilabel"]),
        ("x,A,B\n1,0,1\n2,1,1\n", {"task": "classification"}, ["task multilabel"]),
        ("x,A,C\n1,0,1\n", {}, ["'B'", "x, A, C"]),
        ("x,A,B\n1,0,1\n", {"target": ["A", "A"]}, ["A, A", "once"]),
        ("x,A,B\n1,0,1\n", {"target": []}, ["no column"]),
        ("x,A,B\n1,0,1\n", {"group": "A"}, ["'A'", "both group and target"]),
        ("A,B\n0,1\n", {}, ["no columns to learn from"]),
    ],
)
def test_several_target_columns_are_refused(table, content, options, named):
    refused(lambda: data.csv(table(content), **{"target": ["A", "B"], **options}), "t.csv", *named)


def test_one_column_can_be_a_multi_label_target(table):
    source = data.csv(table("x,y\n1,0\n2,1\n"), task="multilabel")
    np.testing.assert_array_equal(source.labels, [[0], [1]])
    assert (source.labels.dtype, source.class_names) == (np.uint8, ("y",))


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


def test_images_with_several_labels(photos):
    rows = [["sea", "file", "sky"], *([i % 2, name, i // 3] for i, name in enumerate(FIVE))]
    source = data.load(f"{photos(rows)}:sky,sea")
    assert isinstance(source, ImageFiles)
    np.testing.assert_array_equal(source.labels, [[0, 0], [0, 1], [0, 0], [1, 1], [1, 0]])
    assert (source.labels.dtype, source.class_names) == (np.uint8, ("sky", "sea"))


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["0.png", "1.jpg", "0.png"], ["more than once", "'0.png' on line 2", "'0.png' on line 4"]),
        (["0.png", "./0.png", "x/../0.png"], ["more than once", "'0.png' on line 2", "'./0.png' on line 3"]),
        (["0.png", "9.png"], ["not in", "'9.png' on line 3"]),
        ([f"{i}.png" for i in range(9)], ["not in", "'1.png' on line 3", "'2.png' on line 4", "and 5 more"]),
        (["0.png", "../outside.png"], ["outside", "'../outside.png' on line 3"]),
        (["0.png", "deep er/../../outside.png"], ["outside"]),
        (["0.png", "/etc/passwd.png"], ["outside", "absolute path", "line 3"]),
        (["0.png", ".."], ["outside"]),
        (["0.png", "notes.txt", "a.heic"], ["no images of a kind", "'notes.txt' on line 3", "'a.heic' on line 4"]),
        (["0.png", "deep er"], ["no images of a kind"]),
        (["0.png", ""], ["no value", "line 3"]),
        (["0.png", "\0.png"], ["not in", "line 3"]),
        (["0.png", "a" * 5000 + ".png"], ["not in", "line 3"]),
    ],
)
def test_a_table_of_images_is_refused(photos, files, named):
    path = photos([["file", "y"], *([name, i % 2] for i, name in enumerate(files))])
    refused(lambda: data.csv(path), path, "'file'", *named)


@pytest.mark.parametrize(
    ("labels", "names", "named"),
    [
        ([1.5, np.nan, np.inf], (), ["2 labels", "index 1"]),
        ([1.5], (), ["single example"]),
        ([0.0, 1.0], ("a", "b"), ["numbers", "2 classes"]),
    ],
)
def test_numbers_that_cannot_be_regressed_on(labels, names, named):
    source = Arrays(np.zeros((len(labels), 2), np.float32), np.float32(labels), names)
    refused(lambda: choose_task(source, purpose="training"), *named)


@pytest.mark.slow  # it trains networks
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
    refused(lambda: jaxdl.predict(parent, abd), "lacks c", "abd.csv")
    plan = jaxdl.Plan(epochs=1)
    known = jaxdl.Execution(allow=("target-columns",))
    same = [jaxdl.cross_validate(parent, s, plan, folds=2, execution=known).out_of_fold.kept for s in (abc, cab)]
    np.testing.assert_array_equal(*same)
    tuned = [jaxdl.predict(jaxdl.finetune(parent, s, plan), abc).logits for s in (abc, cab)]
    np.testing.assert_array_equal(*tuned)


# What columns are taken for

ROWS = 40


def columns_of(path, **columns):
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".data", ".txt"])
@pytest.mark.parametrize("separator", list(",;\t| "))
def test_the_separator_is_found_by_content(tmp_path, suffix, separator):
    random = np.random.default_rng(0)
    table = pd.DataFrame({"a": random.normal(size=ROWS), "b": random.normal(size=ROWS), "y": random.normal(size=ROWS)})
    path = tmp_path / f"t{suffix}"
    table.to_csv(path, index=False, sep=separator)
    for source in (data.csv(path), data.load(path), data.load(f"{path}:y")):
        np.testing.assert_array_equal(source.x, table[["a", "b"]].to_numpy(np.float32))
        np.testing.assert_array_equal(source.labels, table["y"].to_numpy(np.float32))


@pytest.mark.parametrize("separator", ";\t")
def test_a_comma_before_the_decimals_is_read_where_it_separates_nothing(tmp_path, separator):
    random = np.random.default_rng(0)
    table = pd.DataFrame({"a": random.normal(size=60), "k": random.integers(0, 9, 60), "y": random.normal(size=60)})
    table.to_csv(tmp_path / "t.csv", index=False, sep=separator, decimal=",")
    source = data.csv(tmp_path / "t.csv")
    np.testing.assert_array_equal(source.x, table[["a", "k"]].to_numpy(np.float32))
    np.testing.assert_array_equal(source.labels, table["y"].to_numpy(np.float32))
    assert choose_task(source, purpose="training").name == "regression"


def test_a_table_in_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "a": np.where(random.random(ROWS) < 0.2, np.nan, random.normal(size=ROWS)),
            "on": random.random(ROWS) < 0.5,
            "city": random.choice(["Oslo", "Rome"], ROWS),
            "y": random.choice(["u", "v"], ROWS),
        }
    )
    table.to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv", index=False)
    held, written_out = data.load(f"{tmp_path}/t.parquet:y"), data.csv(tmp_path / "t.csv")
    np.testing.assert_array_equal(held.x, written_out.x)
    np.testing.assert_array_equal(held.labels, written_out.labels)
    assert held.class_names == ("u", "v")
    assert held.levels == written_out.levels == ((), (), ("Oslo", "Rome"))
    table.loc[3, "y"] = None
    table.to_parquet(tmp_path / "t.parquet")
    refused(lambda: data.csv(tmp_path / "t.parquet"), "'y'", "no value", "row 4")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    refused(lambda: data.csv(tmp_path / "t.parquet"), "t.parquet", "Parquet")


def test_classes_are_called_as_they_are_written(tmp_path):
    for texts in (["01", "02", "10"], ["007", "7"], ["1e2", "100"], ["yes", "no"], ["1", "2", "x"]):
        y = (texts * ROWS)[:ROWS]
        source = data.csv(columns_of(tmp_path / "t.csv", a=np.linspace(0, 1, ROWS), y=y))
        assert [source.class_names[label] for label in source.labels] == y


def test_true_and_false_are_numbers_and_words_are_categories(tmp_path):
    on, size = np.arange(ROWS) % 3 == 0, np.array(["S", "L", "M"])[np.arange(ROWS) % 3]
    source = data.csv(columns_of(tmp_path / "t.csv", on=on, size=size, y=np.linspace(0, 1, ROWS)))
    np.testing.assert_array_equal(source.x[:, 0], on)
    assert source.levels == ((), ("L", "M", "S"))
    assert [source.levels[1][int(code)] for code in source.x[:, 1]] == size.tolist()


@pytest.mark.parametrize("name", ["Unnamed: 0", "", "number", "id"])
@pytest.mark.parametrize("begin", [0, 1])
def test_a_column_that_numbers_the_rows_is_left_out_and_said(tmp_path, name, begin):
    table = {name: np.arange(ROWS) + begin, "a": np.linspace(0, 1, ROWS), "y": np.arange(ROWS) // 20}
    source = data.csv(columns_of(tmp_path / "t.csv", **table))
    assert source.columns == ("a",)
    (note,) = source.notes
    assert (name or "Unnamed: 0") in note
    if name:
        assert data.csv(tmp_path / "t.csv", feature=name).columns == (name, "a")
        turned = columns_of(tmp_path / "t.csv", **table | {name: np.arange(ROWS)[::-1]})
        assert data.csv(turned).columns == (name, "a")


def test_one_line_says_what_each_column_is(tmp_path):
    table = {
        "a": [*np.linspace(0, 1, ROWS - 2), np.nan, np.nan],
        "size": np.array(["S", "L"])[np.arange(ROWS) % 2],
        "patient": np.arange(ROWS) // 4,
        "day": np.arange(ROWS) // 2,
        "note": [f"text {i}" for i in range(ROWS)],
        "price": np.linspace(3, 4, ROWS),
    }
    path = columns_of(tmp_path / "t.csv", **table)
    source = data.csv(path, "price", group="patient", time="day", drop="note")
    (note,) = source.notes
    wanted = ["target price", "1 number a", "size (2)", "a (2)", "groups patient", "times day", "dropped note"]
    assert [one for one in wanted if one not in note] == []
    assert "\n" not in note
    assert source.columns == ("a", "size")
    np.testing.assert_array_equal(source.groups, np.arange(ROWS).astype(str).reshape(-1)[np.arange(ROWS) // 4])
    np.testing.assert_array_equal(source.times, table["day"])


def test_what_is_declared_is_obeyed(tmp_path):
    table = {"time": np.arange(ROWS) % 7, "group": np.arange(ROWS) // 8, "y": np.linspace(0, 1, ROWS)}
    path = columns_of(tmp_path / "t.csv", **table)
    for options, columns in (
        ({"feature": ["time", "group"]}, ("time", "group")),
        ({"feature": ["time"], "group": "group"}, ("time",)),
        ({"time": "time", "feature": "group"}, ("group",)),
        ({"drop": ["time"], "feature": "group"}, ("group",)),
    ):
        source = data.csv(path, **options)
        assert source.columns == columns
        assert (source.groups is not None, source.times is not None) == ("group" in options, "time" in options)


def test_names_without_suffix_beside_their_images(tmp_path):
    for i in range(30):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"img_{i:03}.png")
    names = [f"img_{i:03}" for i in range(30)]
    for column in ("id", "image_path", "file_name"):
        path = columns_of(tmp_path / "t.csv", **{column: names, "y": np.arange(30) % 2})
        refused(lambda path=path: data.csv(path), f"'{column}'", "img_000.png")
        path = columns_of(tmp_path / "t.csv", **{column: [f"{name}.png" for name in names], "y": np.arange(30) % 2})
        source = data.csv(path)
        assert isinstance(source, ImageFiles)
        assert int(source[7]["x"][0, 0, 0]) == 7
    path = columns_of(tmp_path / "t.csv", one=["img_000.png"], two=["img_001.png"], y=[0])
    refused(lambda: data.csv(path), "one, two", "--drop two")


def test_a_table_is_read_like_another(tmp_path):
    random = np.random.default_rng(0)
    code = random.choice(["1", "2", "x"], ROWS)
    size = np.array(["S", "M", "L"])[np.arange(ROWS) % 3]
    first = columns_of(
        tmp_path / "a.csv", a=random.normal(size=ROWS), code=code, size=size, price=np.linspace(0, 1, ROWS)
    )
    known = data.csv(first, "price", feature="code")
    second = columns_of(tmp_path / "b.csv", other=["?"] * 3, size=["L", "XL", "S"], a=[1, 2, None], code=[1, 2, 1])
    source = data.csv(second, like=known, labelled=False)
    assert (source.columns, source.levels, source.labels) == (known.columns, known.levels, None)
    np.testing.assert_array_equal(source.x, [[1, 0, 0], [2, 1, -1], [np.nan, 0, 2]])
    assert any("'size'" in note and "XL" in note for note in source.notes)
    third = columns_of(tmp_path / "c.csv", size=["L"], a=[1])
    refused(lambda: data.csv(third, like=known), "lacks code")
    labelled = data.csv(first, like=known)
    np.testing.assert_array_equal(labelled.labels, known.labels)
    assert labelled.target == ("price",)


# Columns that divide the rows


def test_a_split_column_divides_the_rows(tmp_path):
    split = np.array(["train", "Train", "valid", "test"])[np.arange(ROWS) % 4]
    path = columns_of(tmp_path / "t.csv", a=np.linspace(5, 6, ROWS), split=split, y=np.arange(ROWS) / 3)
    whole = data.csv(path)
    assert whole.columns == ("a",)
    assert data.parts_of(path) == ("train", "val", "test")
    assert data.parts_of(f"{path}:y") == ("train", "val", "test")
    assert data.parts_of(f"{path}:split") == ()  # it is the target
    for part, rows in (("train", np.arange(ROWS) % 4 < 2), ("val", np.arange(ROWS) % 4 == 2), (None, slice(None))):
        source = data.load(path, part)
        np.testing.assert_array_equal(source.x, whole.x[rows])
        np.testing.assert_array_equal(source.labels, whole.labels[rows])
        assert any("train 20, val 10, test 10" in note for note in source.notes)
    assert data.csv(path, drop="split").notes != whole.notes
    assert data.csv(path, feature="split").columns == ("a", "split")
    assert data.parts_of(path, table=data.TableOptions(drop=("split",))) == ()
    none = columns_of(tmp_path / "t.csv", a=np.linspace(5, 6, ROWS), split=["train"] * ROWS, y=np.arange(ROWS) / 3)
    refused(lambda: data.load(none, "val"), "'split'", "no row of val")


def test_a_fold_column_is_the_division(tmp_path):
    fold = np.random.default_rng(0).integers(1, 5, ROWS)
    path = columns_of(tmp_path / "t.csv", a=np.linspace(5, 6, ROWS), fold=fold, y=np.arange(ROWS) / 3)
    source = data.csv(path)
    assert source.columns == ("a",)
    ours = split_source(source, "auto", 5, 0)
    for test, (_, theirs) in zip(ours.test, PredefinedSplit(fold).split(), strict=True):
        np.testing.assert_array_equal(np.sort(test), theirs)
    assert len(split_source(source, "kfold", 3, 0)) == 3  # another splitter is obeyed
    part = data.subset(source, np.flatnonzero(fold < 3))
    assert len(split_source(part, "auto", 5, 0)) == 2
    path = columns_of(tmp_path / "t.csv", a=np.linspace(5, 6, ROWS), fold=np.arange(ROWS)[::-1], y=np.arange(ROWS) / 3)
    refused(lambda: data.csv(path), "'fold'", "40 different values", "--drop fold")


def test_a_column_of_weights(tmp_path):
    held, y = np.arange(ROWS) % 3 + 0.5, np.arange(ROWS) / 3
    path = columns_of(tmp_path / "t.csv", a=np.linspace(5, 6, ROWS), w=held, y=y, split=["train", "val"] * (ROWS // 2))
    source = data.csv(path, weight="w")
    np.testing.assert_array_equal(source.weights, held)
    assert (source.columns, "weights w" in source.notes[0]) == (("a",), True)
    np.testing.assert_array_equal(data.load(path, "val", table=data.TableOptions(weight="w")).weights, held[1::2])
    assert data.csv(path).weights is None
    assert data.csv(path).columns == ("a", "w")  # nobody guesses
    for value, said in ((-1.0, "'-1.0', which is no number of 0 or more"), ("much", "'much'"), ("", "has no value")):
        path = columns_of(tmp_path / "t.csv", a=np.linspace(5, 6, ROWS), w=[1, 1, value, *held[3:]], y=y)
        refused(lambda path=path: data.csv(path, weight="w"), "'w'", said, "line 4")
    path = columns_of(tmp_path / "t.csv", a=np.linspace(5, 6, ROWS), w=[0] * ROWS, y=y)
    refused(lambda: data.csv(path, weight="w"), "all weights are 0")
    refused(lambda: data.csv(path, weight="v"), "no column 'v'")
    refused(lambda: data.csv(path, weight="w", feature="w"), "both weight and feature")


def test_options_of_a_table_come_back():
    options = data.TableOptions(("y",), "patient", None, ("a", "b"), ("c",), None, False, "w")
    assert data.TableOptions.parse(options.plain()) == options
    assert data.TableOptions.parse(data.TableOptions().plain()) == data.TableOptions()
    refused(lambda: data.TableOptions(drop="a"), "drop")
    refused(lambda: data.TableOptions.parse({"groups": "a"}), "groups")


def test_a_run_of_before_finds_its_groups_and_times_by_name(tmp_path):
    table = {"a": np.linspace(0, 1, ROWS), "Group": np.arange(ROWS) // 8, "time": np.arange(ROWS) % 7}
    path = columns_of(tmp_path / "t.csv", **table, y=np.arange(ROWS) / 3)
    refused(lambda: data.load(path), "--feature")
    for spec in (path, f"{path}:y"):
        source = data.load(spec, table=how_read({"data": str(spec)})["table"])
        assert (source.columns, list(source.times)) == (("a",), table["time"].tolist())
        assert list(source.groups) == [str(one) for one in table["Group"]]
    said = {"data": str(path), "table": {"feature": ["Group", "time"]}}
    assert data.load(path, table=how_read(said)["table"]).columns == ("a", "Group", "time")
    assert how_read({"data": "digits"}) == how_read({}) == how_read({"data": "gone.csv"}) == {}
