"""Masks whose meaning could be mistaken."""

import numpy as np
import pytest
from PIL import Image

from jaxdl import data
from jaxdl.errors import InputError


def test_a_transparent_palette_is_refused(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) % 2, "P")
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "masks" / "a.png", transparency=0)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "images" / "a.png")
    with pytest.raises(InputError, match="transparent"):
        data.masks(tmp_path)


def test_zero_and_255_with_more_class_names_say_what_is_void(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.uint8([[0, 255], [0, 0]])).save(tmp_path / "masks" / "a.png")
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "images" / "a.png")
    source = data.masks(tmp_path, classes=("a", "b", "c"))
    assert any("25.0 %" in note for note in source.notes)
