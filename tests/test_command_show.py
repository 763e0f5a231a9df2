"""``jaxdl show``, called as the program calls it."""

import contextlib
import io
import shlex

import numpy as np
import pytest
import tyro
from PIL import Image

from jaxdl.cli_options import registry
from jaxdl.commands import show
from jaxdl.commands.show import show_command
from jaxdl.errors import InputError


def run(line):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        tyro.cli(show_command, args=shlex.split(line), registry=registry)
    return out.getvalue()


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def drawn(monkeypatch):
    """What the command hands over to be drawn."""
    calls = []
    monkeypatch.setattr(show, "write_show", lambda *args, **options: calls.append((args, options)) or args[0])
    return calls


def test_digits_make_a_picture(tmp_path):
    assert "16 images before and after standard in" in run("--data digits")
    assert Image.open("show.png").format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["show.png"]
    run("--data digits:1,7 --augment crop erasing mixup --count 3 --out 'new folder/a b.svg'")
    assert "(0." in (tmp_path / "new folder" / "a b.svg").read_text(encoding="utf-8")


def test_before_is_the_data_and_after_repeats_with_the_seed(drawn):
    for options in ("", "", "--seed 1"):
        run(f"--data digits --augment crop erasing cutmix --count 12 --out a.png {options}")
    (_, before, after, labels, mixed), said = drawn[0]
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    known = {np.round(x * 255 / 16).astype(np.uint8).tobytes(): y for x, y in zip(pixels, targets, strict=True)}
    found = [known[np.round(image * 255).astype(np.uint8).tobytes()] for image in before]
    assert [str(target) for target in found] == list(labels)
    assert any("+" in text for text in mixed)
    for label, text in zip(labels, mixed, strict=True):
        assert text.split(" ")[0] == label
    assert (before != after).any((1, 2, 3)).sum() > 6
    np.testing.assert_array_equal(after, drawn[1][0][2])
    assert not np.array_equal(before, drawn[2][0][1])
    assert said["title"] == "digits, augmented: crop erasing cutmix"
    assert said["subtitle"] == "crop, erasing, cutmix; 8×8×1, seed 0"


def test_none_shows_the_images_as_they_are(drawn):
    run("--data digits --augment none --count 2 --out a.png")
    (_, before, after, labels, mixed), _ = drawn[0]
    np.testing.assert_array_equal(before, after)
    assert list(labels) == list(mixed)


@pytest.mark.slow
def test_of_a_large_folder_only_the_chosen_are_read(tmp_path, drawn):
    for name in ("кошки", "$dogs$"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(30):
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(b"no image")
    chosen = np.random.default_rng(0).permutation(60)[:4]
    paths = [p for name in sorted(("кошки", "$dogs$")) for p in sorted((tmp_path / "pets" / name).iterdir())]
    for i, one in enumerate(chosen):
        Image.new("RGB", (20 + i, 30), (200, 10 * i, 0)).save(paths[one])
    run("--data pets --count 4 --out a.png")
    (_, before, _, labels, _), _ = drawn[0]
    assert before.shape == (4, 224, 224, 3)  # they differ in size
    np.testing.assert_allclose(before[:, 5, 5, 1] * 255, [0, 10, 20, 30], atol=0.01)
    assert list(labels) == [paths[one].parent.name for one in chosen]
    run("--data pets --count 4 --image-size 16 --augment strong --out a.png")
    assert drawn[1][0][2].shape == (4, 16, 16, 3)


def test_images_without_classes_are_called_by_their_files(tmp_path, drawn):
    (tmp_path / "loose").mkdir()
    for i in range(2):
        Image.new("L", (9, 9), 60 + i).save(tmp_path / "loose" / f"photo {i}.png")
    run("--data loose --out a.png")
    (_, before, _, labels, _), _ = drawn[0]
    assert sorted(labels) == ["photo 0.png", "photo 1.png"]
    assert before.shape == (2, 9, 9, 1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--data digits --augment standart", "'standard'"),
        ("--data digits --augment none flip", "'none' and flip"),
        ("--data digits --out taken.png", "taken.png'"),
        ("--data digits --out a.jpg", "ends in .png or .svg"),
        ("--data digits --out .", "is no name for a picture|is a folder"),
        ("--data digits --count 0", "the count is 0"),
        ("--data digits --count 101", "the count is 101"),
        ("--data digits --image-size 0", "the image size is 0"),
        ("--data digits --seed -1", "the seed is -1"),
        ("--data plain.npz", "plain.npz holds 4 float32"),
        ("--data plain.npz --augment none", "plain.npz holds 4 float32"),
        ("--data nothing", "'nothing'"),
    ],
)
def test_mistakes_are_named(tmp_path, line, said):
    (tmp_path / "taken.png").write_text("mine")
    np.savez(tmp_path / "plain.npz", x=np.zeros((6, 4), np.float32), y=np.arange(6) % 2)
    with pytest.raises(InputError, match=said):
        run(line)
    assert (tmp_path / "taken.png").read_text() == "mine"
    assert not (tmp_path / "show.png").exists()
