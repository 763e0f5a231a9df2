"""GoogLeNet's weights under the names of torchvision."""

from jaxdl.models.googlenet import INCEPTION, GoogLeNet
from jaxdl.weights.inception import AUXILIARY, conv_norm
from jaxdl.weights.keys import LINEAR, Keys, Row, Table, with_bias


def torchvision(model: GoogLeNet) -> Table:
    blocks: Table = ()
    for stage in INCEPTION:
        blocks += conv_norm(f"{stage}.branch1", f"{stage}/branch1")
        blocks += conv_norm(f"{stage}.branch4.1", f"{stage}/branch4")  # pooling comes before it
        blocks += conv_norm(f"{stage}.branch{{b}}.{{i}}", f"{stage}/branch{{b}}_{{i+1}}")
    return (
        *conv_norm("conv{i}", "stem/conv{i}"),
        *blocks,
        *with_bias("fc", "head/dense", LINEAR),
        Row("aux?.*", None, why=AUXILIARY),
    )


KEYS = Keys({"torchvision": torchvision}, stem="params/stem/conv1/conv/kernel")
