"""The largest batch, found with few programs; the time of a step by hand."""

import pytest

from jaxdl.parallel.chips import parse_slice
from jaxdl.parallel.estimate import HOP, Load, times_of
from jaxdl.validation.planning.planned import Step
from jaxdl.validation.planning.search import largest_batch

HAS = 10_000


class Compiler:
    """A step takes 1,000 bytes and some for each row: exactly so many, or from a size on more than a line says."""

    def __init__(self, each, above=None):
        self.each, self.above, self.tried = each, above, []

    def __call__(self, rows):
        self.tried.append(rows)
        taken = self.each * rows * (2 if self.above and rows > self.above else 1)
        needs = 1000 + taken
        parts = {"parameters": 1000, "activations": taken}
        return Step(rows, needs <= HAS, needs, HAS, parts, 0.0, {}, None)


def search(step, rows, *, multiple=8, most=10**6, compiles=5):
    return largest_batch(step, step(rows), multiple, most, compiles)


@pytest.mark.parametrize("rows", [8, 64, 800])
def test_a_straight_line_leads_there_at_once(rows):
    """(10,000 - 1,000) / 20 = 450 rows fit, of which 8 devices take 448; also from a batch that does not fit."""
    step = Compiler(20)
    found = search(step, rows)
    assert 448 * 0.95 <= found.fits <= 448
    assert found.fails is None or 448 < found.fails <= 448 * 1.06 + 8
    assert len(step.tried) == 1 + found.compiles <= 6


def test_what_is_no_straight_line_is_bisected():
    step = Compiler(20, above=300)
    found = search(step, 64, compiles=10)
    assert found.fits == max(rows for rows in step.tried if rows <= 300)
    assert found.fails - found.fits <= max(8, 0.05 * found.fits) + 8
    assert found.fits >= 280


def test_no_more_programs_are_compiled_than_allowed():
    step = Compiler(20, above=300)
    assert search(step, 64, compiles=2).compiles == 2
    assert len(step.tried) == 3


def test_no_batch_is_larger_than_the_examples_or_smaller_than_the_devices():
    assert search(Compiler(20), 64, most=100).fits == 96
    assert search(Compiler(20), 64, most=100).fails is None
    none = search(Compiler(5000), 64)
    assert none.fits is None
    assert none.fails == 8


def test_the_time_of_a_step():
    """On v5e: 197 Tflop/s, 819 GB/s, 1.5 GHz; a corner of 2 × 4 chips has two links of 50 GB/s."""
    load = Load(flops=1.97e12, moved=8.19e9, sent=1e9, hops=40, cycles=30_000_000)
    times = times_of(parse_slice("v5e:2x4"), load, "bfloat16")
    assert (times.compute, times.memory, times.compiler) == pytest.approx((0.01, 0.01, 0.02))
    assert times.interconnect == pytest.approx(0.01 + 40 * HOP)
    assert times.step == pytest.approx(0.03 + 40 * HOP)
    assert times.overlapped == pytest.approx(0.02)
    gpu = times_of(parse_slice("h100x8"), Load(flops=4.94e12, moved=3.35e9, sent=0.0), "float32")
    assert (gpu.step, gpu.compiler, gpu.bound) == (pytest.approx(0.01), None, "compute")
    # a chip of two devices: each has half of all
    half = times_of(parse_slice("tpu7x:2x2x1"), Load(flops=2307e12, moved=0.0, sent=0.0), "bfloat16")
    assert half.compute == pytest.approx(2.0)
