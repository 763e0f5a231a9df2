"""Folders in a bucket: they behave as those of a file system, and what a bucket cannot do is refused."""

import pathlib
import sys

import numpy as np
import pytest
from checkpoints import assert_same, made

import jaxdl
from jaxdl.errors import InputError
from jaxdl.weights import google_storage
from jaxdl.weights.buckets import BucketPath, as_named, place_of
from jaxdl.weights.files import check_free, read_json, read_npz, written_whole


@pytest.fixture
def place(bucket):
    return place_of(f"gs://{bucket}/some/run")


@pytest.fixture
def like(tmp_path):
    """A folder of the file system, with the same in it as what `fill` puts anywhere."""
    return tmp_path / "run"


FILES = {"run.json": b"{}", "a/b/card.json": b"1", "a/c.npz": b"\x00\r\n\xff" * 1000, "a-b": b"", "new": "é".encode()}


def fill(folder):
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_a_folder_in_a_bucket_is_like_one_of_a_file_system(place, like):
    for folder in (place, like):
        assert not folder.exists()
        fill(folder)
    for name in ("", "a", "a/b", "a/b/card.json", "a-b", "ne", "new", "run.json", "nothing"):
        one, other = place / name, like / name
        assert (one.exists(), one.is_file(), one.is_dir()) == (other.exists(), other.is_file(), other.is_dir()), name
        if other.is_dir():
            assert [p.name for p in one.iterdir()] == sorted(p.name for p in other.iterdir())
        elif other.is_file():
            assert one.read_bytes() == other.read_bytes()
    for pattern in ("*", "*/card.json", "*/*/card.json", "a*"):
        names = [sorted(str(p.relative_to(folder)) for p in folder.glob(pattern)) for folder in (place, like)]
        assert names[0] == names[1], pattern
    assert (place / "new").read_text() == "é"
    (place / "new").unlink()
    (place / "new").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (place / "new").unlink()
    with pytest.raises(FileNotFoundError):
        (place / "new").read_bytes()
    assert place.parent.name == "some"
    assert str(place / "a") == f"gs://{place.bucket}/some/run/a" == (place / "a").as_uri()
    assert place_of(pathlib.Path(str(place))) == place  # which a Path would write with one slash
    assert str(as_named(str(place))) == str(place)


def test_nothing_looks_at_this_machine_by_mistake(place):
    """Every method of a path that touches a file system is one of its own."""
    local = set(dir(pathlib.Path)) - set(dir(pathlib.PurePath)) - {"cwd", "home", "from_uri"}
    inherited = {name for name in local if not name.startswith("_") and name not in vars(BucketPath)}
    assert inherited == set()
    for refused in (place.stat, place.touch, lambda: place.rglob("*"), lambda: place.open("w")):
        with pytest.raises(NotImplementedError, match="some/run"):
            refused()


def test_the_file_that_says_what_a_folder_is_comes_last_and_goes_last(place, like, cloud_storage):
    fill(like)
    cloud_storage.written.clear()
    place.send(like, last="new")
    assert cloud_storage.written[-2:] == ["some/run/run.json", "some/run/new"]
    assert {n: (place / n).read_bytes() for n in FILES} == FILES
    moved = place.rename(place.with_name("moved"))
    assert {n: (moved / n).read_bytes() for n in FILES} == FILES
    assert not place.exists()
    removed = [one for one in cloud_storage.requests if one.startswith("DELETE")]
    assert "some/run/run.json" in removed[-1]
    moved.fetch(like.with_name("here"))
    assert {n: (like.with_name("here") / n).read_bytes() for n in FILES} == FILES
    moved.remove_all()
    assert not moved.exists()


def test_an_object_is_written_only_if_it_is_what_was_seen(place):
    file = place / "lock"
    first = file.write_if(b"one", 0)
    assert file.write_if(b"two", 0) is None
    second = file.write_if(b"three", first)
    assert (file.write_if(b"four", first), file.read_bytes(), file.generation()) == (None, b"three", second)
    file.unlink_if(first)
    assert file.is_file()
    file.unlink_if(second)
    assert file.generation() is None


@pytest.mark.parametrize("kind", ["cnn", "bfloat16"])
def test_a_checkpoint_comes_back_bit_for_bit(place, kind):
    original = made(kind)
    assert jaxdl.save(original, str(place)) == place
    restored = jaxdl.restore(str(place))
    assert (restored.card, restored.history) == (original.card, original.history)
    assert restored.path == str(place)
    assert_same(restored.variables, original.variables)
    with pytest.raises(InputError, match=f"'{place}' is there already"):
        jaxdl.save(original, place)


def test_of_a_checkpoint_that_was_not_sent_whole_nothing_is_left(place, cloud_storage, monkeypatch):
    """Not even its card, if something fails; if the process is killed there is no card, which comes last."""
    monkeypatch.setattr(cloud_storage, "refuse", lambda _, name: 403 if name.endswith("metrics.jsonl") else None)
    cloud_storage.written.clear()
    with pytest.raises(InputError, match=f"may not do that in the bucket 'gs://{place.bucket}'"):
        jaxdl.save(made(), place)
    assert not any(name.endswith("card.json") for name in cloud_storage.written)
    assert not place.exists()
    monkeypatch.undo()
    jaxdl.save(made(), place)
    (place / "card.json").unlink()
    with pytest.raises(InputError, match="writing it was interrupted: it has arrays"):
        jaxdl.restore(place)


def test_what_vanishes_between_two_requests_is_no_missing_bucket(place, tmp_path, monkeypatch):
    monkeypatch.setattr(BucketPath, "names", lambda _: ["gone"])
    with pytest.raises(FileNotFoundError, match=f"vanished meanwhile: 'gs://{place.bucket}'"):
        place.fetch(tmp_path / "copy")


@pytest.mark.parametrize("name", ["../../outside", "/etc/outside", "a/../../../outside", "a//b"])
def test_no_object_is_written_outside_of_the_copy(place, tmp_path, cloud_storage, name):
    """A bucket takes any name, and may be somebody else's."""
    jaxdl.save(made(), place)
    cloud_storage.buckets[place.bucket][f"{place.key}/variables/{name}"] = (1, b"outside")
    with pytest.raises(InputError, match=r"holds an object whose name is no file's: '.*(outside|a//b)'"):
        jaxdl.restore(place)
    with pytest.raises(InputError, match="no file's"):
        place.fetch(tmp_path / "below" / "copy")
    assert not list(tmp_path.rglob("*"))
    place.remove_all()  # by their own names
    assert not cloud_storage.buckets[place.bucket]


def test_what_stands_for_an_empty_folder_is_no_file(place, tmp_path, cloud_storage):
    """Google's console and other programs make such objects."""
    fill(place)
    for name in ("", "a/", "empty/"):
        cloud_storage.buckets[place.bucket][f"{place.key}/{name}"] = (1, b"")
    assert sorted(place.names()) == sorted(FILES)
    assert [p.name for p in place.iterdir()] == ["a", "a-b", "empty", "new", "run.json"]
    place.fetch(tmp_path / "copy")
    copied = [p for p in (tmp_path / "copy").rglob("*") if p.is_file()]
    assert sorted(str(p.relative_to(tmp_path / "copy")) for p in copied) == sorted(FILES)
    place.rename(place.with_name("moved"))
    assert not place.exists()


def test_damage_is_named(place):
    jaxdl.save(made(), place)
    with pytest.raises(InputError, match=f"'{place}/other.json' cannot be read"):
        read_json(place / "other.json")
    (place / "card.json").write_text("{")
    with pytest.raises(InputError, match=f"'{place}/card.json' is damaged"):
        jaxdl.restore(place)
    with written_whole(place.with_name("arrays")) as work:
        np.savez(work / "a.npz", a=np.arange(3))
    assert read_npz(place.with_name("arrays") / "a.npz")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "gs://no-such-bucket/run",
            "there is no bucket 'gs://no-such-bucket'; make it by: gcloud storage buckets create",
        ),
        ("gs://some-bucket", "expected gs://BUCKET/FOLDER"),
        ("gs://some-bucket/ru[n]", "expected gs://BUCKET/FOLDER, without any of"),
    ],
)
def test_what_is_no_folder_in_a_bucket(cloud_storage, path, said):
    with pytest.raises(InputError) as error:
        jaxdl.restore(path)
    assert path.removesuffix("/run") in str(error.value)
    assert said in str(error.value)


def test_only_what_is_written_whole_goes_to_a_bucket(place):
    with pytest.raises(InputError, match=r"table\.csv' is in a bucket, to which runs.*name a place on this machine"):
        check_free(f"gs://{place.bucket}/table.csv")
    for call in (check_free, jaxdl.restore, jaxdl.load_result, lambda path: jaxdl.save(made(), path)):
        with pytest.raises(InputError, match=r"'s3://mine/run' is an address; expected .*gs://BUCKET/FOLDER"):
            call("s3://mine/run")
    with pytest.raises(InputError, match=r"'gs://some/photos' is an address.*gcloud storage cp --recursive"):
        jaxdl.data.load("gs://some/photos")


def test_a_storage_that_does_not_answer_is_given_up_soon(cloud_storage, monkeypatch):
    monkeypatch.setattr(cloud_storage, "refuse", lambda *_: 503)
    monkeypatch.setattr(google_storage, "PATIENCE", 0.5)
    with pytest.raises(InputError, match=r"the bucket 'gs://some-other' cannot be reached .*try again later"):
        jaxdl.restore("gs://some-other/run")


@pytest.mark.parametrize("package", ["gcsfs", "google.cloud.storage"])
def test_without_the_packages_it_says_which(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # importing it then fails
    monkeypatch.setattr(google_storage, "client", google_storage.client.__wrapped__)
    with pytest.raises(InputError, match="pip install gcsfs"):
        jaxdl.restore(f"gs://without-{package}/run")
