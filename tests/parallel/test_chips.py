import pytest

from jaxdl.errors import InputError
from jaxdl.parallel.chips import CHIPS, TPUS, chip_of, parse_slice


def test_a_slice_is_chips_in_a_shape():
    found = parse_slice("v5e:4x4")
    assert (found.chip.name, found.topology, found.chips, found.devices) == ("v5e", (4, 4), 16, 16)
    assert parse_slice("TPU7x:2x2x2").devices == 16  # two devices in each chip
    assert [parse_slice(name).chips for name in ("h100x8", "h100", "a100-40gbx16", "tpu7x:2x2x1")] == [8, 1, 16, 4]


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("v9:2x2", "v5e"),  # those that are known are listed
        ("h10x8", "h100"),
        ("v5e", "v5e:4x4"),
        ("v5e:4", "v5e:4x4"),
        ("v5e:2x2x2", "2 axes"),
        ("v5p:4x4", "v5p:2x2x2"),
        ("v5e:3x4", "2x4, 4x4"),
        ("v5e:32x32", "16"),
        ("v5p:3x4x4", "multiples of 4"),
        ("v4:4x4x20", "16"),
        ("v5e:axb", "v5e:4x4"),
        ("h100x0", "h100x8"),
        ("h100:4x4", "h100x8"),
        ("", "v5e"),
    ],
)
def test_what_is_no_slice_is_refused_and_what_is_expected_is_named(name, named):
    with pytest.raises(InputError, match=named):
        parse_slice(name)


def test_a_chip_is_found_by_what_jax_calls_it():
    assert [chip_of(kind).name for kind in ("TPU v5 lite", "TPU v5")] == ["v5e", "v5p"]
    assert [chip_of(kind) for kind in ("NVIDIA L40S", "cpu")] == [None, None]
    kinds = [kind for chip in CHIPS.values() for kind in chip.kinds]
    assert len(kinds) == len(set(kinds))


def test_the_chip_with_the_fewest_links_sets_the_pace():
    link = CHIPS["v5e"].link
    assert parse_slice("v5e:2x4").sends == 2 * link  # a corner of a mesh
    assert parse_slice("v5e:16x16").sends == 4 * link  # a torus
    assert parse_slice("v5e:1x1").sends == 0
    assert parse_slice("v5p:4x4x4").sends == 6 * CHIPS["v5p"].link  # 600 GB/s: what the data sheet says of a chip
    assert parse_slice("v5p:2x2x1").sends == 2 * CHIPS["v5p"].link


def test_hops_are_between_the_chips_that_are_farthest_apart():
    slices = ("v5e:2x4", "v5e:16x16", "v5p:2x2x2", "v5p:4x4x4", "h100x8")
    assert [parse_slice(name).hops for name in slices] == [1 + 3, 8 + 8, 3, 6, 0]


def test_peaks_are_whole_operations_in_a_cycle():
    """A matrix unit has 128 or 256 rows and columns: the clock and the peak of a data sheet fit one another."""
    for chip in TPUS:
        per_cycle = chip.bf16 / chip.devices / chip.clock
        assert per_cycle == pytest.approx(round(per_cycle / 2**17) * 2**17, rel=0.01), chip.name
