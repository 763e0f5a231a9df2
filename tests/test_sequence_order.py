"""The lesson on order: what is asked is right, what is said follows from the numbers, and it runs."""

import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def lesson(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import sequence_order

    yield sequence_order
    for name in ("sequence_order", "sequence_order_pictures"):
        sys.modules.pop(name, None)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize("back", [False, True])
def test_what_is_to_be_copied_stands_as_far_away_as_it_says(lesson, rng, back):
    asked = lesson.copy(rng, 50, 6, back=back)
    assert asked.words.shape == asked.tags.shape == asked.distance.shape == (50, 13)
    rows, places = np.nonzero(asked.distance)
    assert len(rows) == 50 * 6
    np.testing.assert_array_equal(asked.tags[rows, places], asked.words[rows, places - asked.distance[rows, places]])
    assert (asked.words[rows, places] == lesson.ASK).all()
    assert (asked.tags[asked.distance == 0] == lesson.NOTHING).all()
    assert len({tuple(row) for row in asked.words}) == 50, "no sentence is both learned and asked for"
    assert ("".join(asked.tags[0, 7:]) == "".join(asked.words[0, :6])[:: -1 if back else 1]) is True


def test_of_few_symbols_there_are_few_sentences(lesson, rng):
    assert len(lesson.copy(rng, 100, 1).words) == len(lesson.SYMBOLS)


def test_the_first_word_is_asked_for_at_every_later_one(lesson, rng):
    asked = lesson.recall(rng, 40, 9)
    assert (asked.tags == asked.words[:, :1]).all()
    assert (asked.distance == np.arange(10)).all()


def test_pairs_are_twins_of_the_same_words(lesson, rng):
    asked = lesson.pairs(rng, 60, 20)
    for one, two in zip(asked.words[::2], asked.words[1::2], strict=True):
        assert sorted(one) == sorted(two)
        assert (one != two).sum() == 2
    for words, tags, far in zip(asked.words, asked.tags, asked.distance, strict=True):
        a, b = (int(np.flatnonzero(words == sign)[0]) for sign in "ab")
        assert tags[-1] == ("a" if a < b else "b")
        assert far[-1] - lesson.TOGETHER < abs(a - b) <= far[-1]
        assert far[-1] % lesson.TOGETHER == 0
        assert set(tags[:-1]) == {lesson.NOTHING}
        assert words[-1] == lesson.ASK


def test_who_knows_the_words_alone_names_the_most_frequent(lesson, rng):
    asked = lesson.copy(rng, 200, 4)
    expected = np.mean([max(np.unique(row, return_counts=True)[1]) / 4 for row in asked.words[:, :4]])
    assert lesson.by_words_alone(asked) == {5: pytest.approx(expected)}
    assert set(lesson.by_words_alone(lesson.pairs(rng, 60, 5)).values()) == {0.5}


def test_what_is_said_follows_from_the_numbers(lesson):
    found = {
        "good": {1: 1.0, 5: 0.97},
        "blind": {1: 0.13, 5: 0.12},
        "forgets": {1: 0.9, 5: 0.4},
        "half": {1: 0.6, 5: 0.62},
        "far": {1: 0.5, 5: 0.8},
        "dips": {1: 1.0, 3: 0.4, 5: 1.0},
    }
    assert lesson.in_words("copy", found, {1: 0.2, 3: 0.2, 5: 0.1}) == [
        "copy: right at every distance: good",
        "copy: no better than by the words alone, without their order: blind",
        "copy: worse with distance: forgets (90 % at 1 words, 40 % at 5)",
        "copy: in between at every distance: half (60 % at 1 words, 62 % at 5)",
        "copy: better with distance: far (50 % at 1 words, 80 % at 5)",
        "copy: worse in the middle: dips (100 % at 1 words, 100 % at 5, 40 % at 3)",
    ]
    assert lesson.table({"copy": found})[1].split() == ["good", "1.00", "0.97"]


def test_the_pictures_show_every_model(lesson, tmp_path):
    found = {task: {name: {1: 1.0, 4: 0.5} for name in lesson.MODELS} for task in lesson.TASKS}
    alone = {task: {1: 0.2, 4: 0.1} for task in lesson.TASKS}
    times = {name: {16: 0.01, 32: 0.02} for name in lesson.MODELS}
    for figure in (
        lesson.draw_accuracy(found, alone, tmp_path / "one.png"),
        lesson.draw_times(times, tmp_path / "two.png"),
    ):
        assert [text.get_text() for text in figure.legends[0].get_texts()][: len(lesson.MODELS)] == list(lesson.MODELS)
        for axes in figure.axes:
            looks = [(line.get_color(), line.get_marker()) for line in axes.lines if line.get_label() in lesson.MODELS]
            assert len(set(looks)) == len({color for color, _ in looks}) == len({mark for _, mark in looks}) == 7
    assert matplotlib.image.imread(tmp_path / "one.png").std() > 0


@pytest.mark.slow
def test_without_positions_exactly_one_of_two_twins_is_right(lesson, rng):
    """Their words are the same, and all of them have one distance."""
    assert lesson.learn("attention, none", lesson.pairs(rng, 140, 2), 100, 20) == {lesson.TOGETHER: 0.5}


@pytest.mark.slow
def test_it_runs(lesson, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sequence_order.py", "--quick", "--out", str(tmp_path)])
    lesson.main()
    said = capsys.readouterr().out
    for task in lesson.TASKS:
        assert f"\n{task}: " in said
    assert {file.name for file in tmp_path.iterdir()} == {"sequence_order.png", "sequence_order_time.png"}
