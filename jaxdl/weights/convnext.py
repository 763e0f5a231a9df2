"""ConvNeXt elsewhere: `jaxdl.models.convnext.ConvNeXt`."""

from jaxdl.models.convnext import ConvNeXt
from jaxdl.weights.keys import AS_IS, CONV, LINEAR, Change, Keys, Row, Table, scale_and_bias, with_bias

PER_CHANNEL = Change(lambda tensor: (tensor.squeeze((1, 2)),), lambda leaf: leaf[:, None, None])  # [channels, 1, 1]


def torchvision(model: ConvNeXt) -> Table:
    """There what halves a stage's input and the stage's blocks are steps of their own, counted together."""
    rows = []
    for stage in range(1, len(model.depths) + 1):
        step = 2 * stage - 1
        names = ("block.0", "block.2", "block.3", "block.5", "layer_scale")
        rows += _block(f"features.{step}.{{b}}", f"stage{stage}/block{{b+1}}", names, PER_CHANNEL)
        if stage > 1:
            rows += _reduction(f"features.{step - 1}", f"stage{stage}/downsample_")
    return (
        *with_bias("features.0.0", "stem/conv", CONV),
        *scale_and_bias("features.0.1", "stem/norm"),
        *rows,
        *scale_and_bias("classifier.0", "pool/norm"),
        *with_bias("classifier.2", "head/dense", LINEAR),
    )


def timm(model: ConvNeXt) -> Table:
    names = ("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma")
    return (
        *with_bias("stem.0", "stem/conv", CONV),
        *scale_and_bias("stem.1", "stem/norm"),
        *_reduction("stages.{s}.downsample", "stage{s+1}/downsample_"),
        *_block("stages.{s}.blocks.{b}", "stage{s+1}/block{b+1}", names),
        *scale_and_bias("head.norm", "pool/norm"),
        *with_bias("head.fc", "head/dense", LINEAR),
    )


def huggingface(model: ConvNeXt) -> Table:
    """transformers' `ConvNextForImageClassification`."""
    names = ("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter")
    stage = "convnext.encoder.stages.{s}"
    return (
        *with_bias("convnext.embeddings.patch_embeddings", "stem/conv", CONV),
        *scale_and_bias("convnext.embeddings.layernorm", "stem/norm"),
        *_reduction(f"{stage}.downsampling_layer", "stage{s+1}/downsample_"),
        *_block(f"{stage}.layers.{{b}}", "stage{s+1}/block{b+1}", names),
        *scale_and_bias("convnext.layernorm", "pool/norm"),
        *with_bias("classifier", "head/dense", LINEAR),
    )


def _reduction(theirs: str, ours: str) -> Table:
    return (*scale_and_bias(f"{theirs}.0", f"{ours}norm"), *with_bias(f"{theirs}.1", f"{ours}conv", CONV))


def _block(theirs: str, ours: str, names: tuple[str, ...], scale: Change = AS_IS) -> Table:
    """`names`: of the convolution, the normalisation, both linear maps and the layer scale."""
    conv, norm, mlp1, mlp2, layer_scale = names
    return (
        *with_bias(f"{theirs}.{conv}", f"{ours}/conv", CONV),
        *scale_and_bias(f"{theirs}.{norm}", f"{ours}/norm"),
        *with_bias(f"{theirs}.{mlp1}", f"{ours}/mlp1", LINEAR),
        *with_bias(f"{theirs}.{mlp2}", f"{ours}/mlp2", LINEAR),
        Row(f"{theirs}.{layer_scale}", f"params/{ours}/layer_scale", scale),
    )


KEYS = Keys(layouts={"torchvision": torchvision, "timm": timm, "huggingface": huggingface})
