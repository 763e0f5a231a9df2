"""MobileNetV2 elsewhere: `jaxdl.models.mobilenet.MobileNetV2`; and what its key tables share with EfficientNet's."""

from collections.abc import Iterator, Mapping

from jaxdl.models.mobilenet import GROUPS, Group, MobileNetV2
from jaxdl.weights.keys import CONV, LINEAR, POINTWISE, Keys, Row, Table, batch_norm, with_bias

PARTS = ("expand", "depthwise", "project")  # of a block; one with expansion 1 has no way up


def conv_norm(conv: str, norm: str, ours: str, our_norm: str) -> Table:
    """The rows of a convolution and its batch normalisation, both named here by templates."""
    return (Row(f"{conv}.weight", f"params/{ours}/kernel", CONV), *batch_norm(norm, our_norm))


def block(theirs: str, ours: str, names: Mapping[str, tuple[str, str]], squeeze: tuple[str, str] | None) -> Table:
    """The rows of a block.

    Args:
      theirs: the block's name there.
      ours: and here.
      names: of the convolution and the normalisation there, for each of `PARTS` that it has.
      squeeze: the names of both linear maps of squeeze and excitation, which are 1×1 convolutions there, or None.
    """
    maps = () if squeeze is None else zip(squeeze, ("squeeze", "excite"), strict=True)
    return (
        *(
            row
            for part, (conv, norm) in names.items()
            for row in conv_norm(f"{theirs}.{conv}", f"{theirs}.{norm}", f"{ours}/{part}", f"{ours}/{part}_norm")
        ),
        *(row for there, here in maps for row in with_bias(f"{theirs}.{there}", f"{ours}/{here}", POINTWISE)),
    )


def parts(group: Group, names: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, str]]:
    """`names` by part of a block of `group`, in the order of `PARTS`; the first is missing where it has no way up."""
    return dict(zip(PARTS[1:] if group.expansion == 1 else PARTS, names, strict=True))


def blocks_in_order(model: MobileNetV2, groups: tuple[Group, ...]) -> Iterator[tuple[int, Group, str]]:
    """For each block its number in the whole network, from 0, its group, and its name here."""
    number = 0
    for stage, (group, depth) in enumerate(zip(groups, model.depths, strict=False), 1):
        for place in range(1, depth + 1):
            yield number, group, f"stage{stage}/block{place}"
            number += 1


def ends(stem: tuple[str, str], last: tuple[str, str], head: str) -> Table:
    """The rows before and after the blocks, from the names of the convolutions and normalisations there."""
    return (
        *conv_norm(*stem, "stem/conv", "stem/norm"),
        *conv_norm(*last, "last/conv", "last/norm"),
        *with_bias(head, "head/dense", LINEAR),
    )


def torchvision(model: MobileNetV2) -> Table:
    """There blocks are counted through the whole network, and steps within a block."""
    rows: Table = ()
    for number, group, ours in blocks_in_order(model, GROUPS):
        names = (("conv.0.0", "conv.0.1"), ("conv.1.0", "conv.1.1"), ("conv.2", "conv.3"))
        if group.expansion == 1:
            names = (("conv.0.0", "conv.0.1"), ("conv.1", "conv.2"))
        rows += block(f"features.{number + 1}", ours, parts(group, names), None)
    last = f"features.{sum(model.depths) + 1}"
    return (*ends(("features.0.0", "features.0.1"), (f"{last}.0", f"{last}.1"), "classifier.1"), *rows)


def timm_blocks(groups: tuple[Group, ...], squeeze: tuple[str, str] | None) -> Table:
    """timm's blocks without a way up are modules of another kind, which count their parts otherwise."""
    rows: Table = ()
    for stage, group in enumerate(groups):
        names = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))
        if group.expansion == 1:
            names = (("conv_dw", "bn1"), ("conv_pw", "bn2"))
        rows += block(f"blocks.{stage}.{{b}}", f"stage{stage + 1}/block{{b+1}}", parts(group, names), squeeze)
    return rows


TIMM_ENDS = ends(("conv_stem", "bn1"), ("conv_head", "bn2"), "classifier")


def timm(model: MobileNetV2) -> Table:
    return (*TIMM_ENDS, *timm_blocks(GROUPS, None))


KEYS = Keys(layouts={"torchvision": torchvision, "timm": timm})
