"""The lesson on GPUs and TPUs: its counts, its estimates, its tables and its picture."""

import importlib
import itertools
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdl.parallel.chips import CHIPS
from jaxdl.parallel.operations import operations_of

FOLDER = Path(__file__).parents[1] / "experiments"
TINY = {"product": (64,), "dense": (1, 8), "convolution": (1,), "attention": (16,), "a*x+y": (4096,)}


@pytest.fixture(name="lesson")
def _lesson(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("gpu_tpu")


@pytest.fixture(name="kernels")
def _kernels(lesson):
    return importlib.import_module("gpu_tpu_kernels")


def structs(kernel, dtype="float32"):
    return [jax.ShapeDtypeStruct(shape, dtype) for shape in kernel.shapes]


def test_operations_and_bytes_are_those_that_are_written_down(kernels):
    """Against the count of the program's products, and XLA's own where it has no other idea of padding."""
    made = [
        kernels.product(48),
        kernels.dense(3, 32),
        kernels.convolution(2, 7, 4),
        kernels.attention(8, 32, 2, 4),
        kernels.scaled_sum(1000),
    ]
    for kernel in made[:4]:
        assert operations_of(kernel.function, *structs(kernel)).flops == kernel.flops, kernel.kind
    assert kernels.product(48).flops == 2 * 48**3
    for kernel in (made[0], made[1], made[4]):
        cost = jax.jit(kernel.function).lower(*structs(kernel)).compile().cost_analysis()
        assert cost["flops"] == kernel.flops
        assert cost["bytes accessed"] == kernel.numbers * 4
    for kernel in made:  # each argument is read, and the result written, once
        out = jax.eval_shape(kernel.function, *structs(kernel, "bfloat16"))
        assert kernel.numbers == sum(np.prod(shape) for shape in (*kernel.shapes, out.shape))
        assert kernel.intensity("bfloat16") == kernel.flops / (2 * kernel.numbers)
        assert kernel.intensity("bfloat16") == 2 * kernel.intensity("float32")


def test_the_roof_turns_at_the_ridge(kernels):
    roof = kernels.roof_of(CHIPS["v5e"])
    ridge = roof.peak["bfloat16"] / roof.bandwidth
    assert ridge == pytest.approx(240.5, abs=0.1)
    assert kernels.dense(272).intensity("bfloat16") < ridge < kernels.dense(273).intensity("bfloat16")
    below, above = kernels.dense(128), kernels.dense(1024)
    assert below.intensity("bfloat16") < ridge < above.intensity("bfloat16")
    assert roof.at(below, "bfloat16") == pytest.approx(819e9 * below.intensity("bfloat16"))
    assert roof.at(above, "bfloat16") == 197e12
    assert kernels.roof_of(CHIPS["tpu7x"]).peak["bfloat16"] == CHIPS["tpu7x"].bf16 / 2  # one device of two


def test_a_measured_roof_is_no_lower_than_its_points(kernels):
    low = kernels.Roof("cpu, here", {"float32": 1e9}, 1e9)
    product, small, large = kernels.product(512), kernels.scaled_sum(2**10), kernels.scaled_sum(2**20)
    times = {product: 0.01, small: 1e-7, large: 4e-3}
    points = kernels.raised([kernels.Point(one, "float32", low, took, True) for one, took in times.items()])
    roof = points[0].roof
    assert roof.peak["float32"] == 2 * 512**3 / 0.01
    assert roof.bandwidth == 12 * 2**20 / 4e-3  # of the vector that no cache holds
    assert all(one.roof is roof for one in points)


def test_an_exaflop_and_a_training_image_have_a_price(lesson, capsys):
    assert lesson.exaflop(3.6, 1e15) == pytest.approx(1.0)  # a thousand seconds of a tenth of a cent
    found = lesson.training_flops("mlp", 8)
    hidden = lesson.jaxdl.create("mlp", 1000).hidden
    sizes = (8 * 8 * 3, *hidden, 1000)
    products = [2 * a * b for a, b in itertools.pairwise(sizes)]
    assert found == 3 * sum(products) - products[0]  # forward, and gradients of weights, and of inputs but the first
    lesson.tell_prices({"v5e": 1.2, "tpu7x": 12.0}, 2e10, 0.5, "mine")
    v5e, tpu7x, said = capsys.readouterr().out.splitlines()[-3:]
    assert v5e.split()[:3] == ["v5e", "1.20", "241"]
    assert float(v5e.split()[3]) == pytest.approx(1.2 / 3600 * 1e18 / 197e12, rel=0.01)
    assert float(v5e.split()[4]) == pytest.approx(1.2 / 3600 * 1e15 / 819e9, rel=0.01)
    assert v5e.split()[5] == f"{0.5 * 197e12 / 2e10:,.0f}"
    assert float(tpu7x.split()[6]) == pytest.approx(12 / 3600 * 1000 * 2e10 / (0.5 * 2307e12), rel=0.1)  # a whole chip
    assert said.startswith("Large products cost least on tpu7x;")  # 1.44 an exaFLOP, and 1.69 on v5e
    assert said.endswith("on v5e.")  # 0.41 a petabyte, and 0.45


def test_the_lesson_runs_where_there_is_no_tpu_compiler(lesson, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(lesson, "QUICK", TINY)
    monkeypatch.setattr(lesson, "roof_here", lambda dtypes, budget: lesson.Roof("cpu, here", {"float32": 1e12}, 1e9))
    monkeypatch.setattr(lesson.importlib.util, "find_spec", lambda name: None)
    out = tmp_path / "new" / "picture.png"
    options = "--quick --dtypes float32 --seconds 0.01 --price v5e=1.2 h100=3 --model mlp --image-size 8 --out"
    points = lesson.main([*options.split(), str(out)])
    said = capsys.readouterr().out
    assert "left out" in said
    assert "jax[tpu]" in said
    assert len(points) == 6
    assert all(one.measured and one.seconds > 0 for one in points)
    assert said.count(" measured") == 6
    assert said.count("*") >= 6  # the cheaper one of each kernel
    assert out.stat().st_size > 10_000


def test_the_names_of_roofs_do_not_overlap(lesson, kernels, tmp_path):
    roofs = [kernels.Roof("cpu, here", {"float32": 2e11}, 3e10), *(kernels.roof_of(chip) for chip in CHIPS.values())]
    points = [kernels.Point(kernels.dense(8, 64), "float32", roofs[0], 1e-4, True)]
    points += [kernels.Point(kernels.dense(8, 64), "bfloat16", roof, 1e-6, False) for roof in roofs[1:]]
    figure = lesson.draw(roofs, points, tmp_path / "picture.png")
    left, right = figure.axes
    boxes = sorted((text.get_window_extent() for text in left.texts), key=lambda box: box.y0)
    assert len(boxes) == len(roofs)
    assert all(one.y1 <= other.y0 for one, other in itertools.pairwise(boxes))
    assert boxes[-1].y1 <= figure.bbox.y1
    assert max(box.x1 for box in boxes) <= right.get_tightbbox().x0


@pytest.mark.parametrize("word", ["v5e", "v5e=", "v5e=-1", "v9=1", "v5e=inf", "v5e=nan"])
def test_a_price_that_is_none_is_refused(lesson, capsys, word):
    with pytest.raises(SystemExit, match="2"):
        lesson.parse(["--price", word])
    assert f"'{word}' is no price" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--share 0", "--share 40", "--seconds 0", "--image-size -1"])
def test_numbers_that_cannot_be_are_refused(lesson, capsys, words):
    with pytest.raises(SystemExit, match="2"):
        lesson.parse(words.split())
    assert words.split()[0] in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_the_compilers_estimates_have_the_marks_of_the_lesson(kernels):
    """Large products come near the peak, small ones do not; a column too many costs; nothing is above the roof."""
    pytest.importorskip("libtpu")
    v5e = CHIPS["v5e"]
    layers = [kernels.rectangle("layer", width, 32768, width, width) for width in (256, 257)]
    made = [kernels.product(256), kernels.product(2048), kernels.dense(8), kernels.dense(16), *layers]
    small, large, few, twice, even, odd = kernels.estimate(made, ["bfloat16"], v5e)
    assert small.rate < 0.3 * v5e.bf16
    assert 0.8 * v5e.bf16 < large.rate <= v5e.bf16
    assert twice.seconds == pytest.approx(few.seconds, rel=0.01)  # both wait for the weights
    assert few.seconds == pytest.approx(2 * 4096**2 / v5e.bandwidth, rel=0.02)
    assert odd.seconds > 1.2 * even.seconds
    assert odd.kernel.flops < 1.02 * even.kernel.flops
