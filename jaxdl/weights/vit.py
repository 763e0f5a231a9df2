"""Vision transformers elsewhere: `jaxdl.models.vit.ViT`."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.errors import InputError
from jaxdl.models.vit import ViT
from jaxdl.weights.keys import CONV, LINEAR, Change, Keys, Row, Table, scale_and_bias, with_bias

OURS = "block{i+1}"
ATTENTION = f"{OURS}/attention"
# query, key and value are one tensor of three times the rows in timm and torchvision; the T of a bias is itself
FUSED = Change(
    lambda tensor: tuple(part.T for part in np.split(tensor, 3)),
    lambda *leaves: np.concatenate([leaf.T for leaf in leaves]),
)


def _fused(theirs: tuple[str, str]) -> Table:
    """Rows of attention's first product; `theirs` names its weight and its bias."""
    leaves = lambda kind: tuple(f"params/{ATTENTION}/{name}/{kind}" for name in ("query", "key", "value"))  # noqa: E731
    return Row(theirs[0], leaves("kernel"), FUSED), Row(theirs[1], leaves("bias"), FUSED)


def timm(model: ViT) -> Table:
    """timm's `vision_transformer.py` and, of the distilled ones, `deit.py`."""
    theirs = "blocks.{i}"
    return (
        *with_bias("patch_embed.proj", "embed/patch", CONV),
        Row("cls_token", "params/embed/class_token"),
        Row("dist_token", "params/embed/distillation_token"),
        Row("pos_embed", "params/embed/position"),
        *scale_and_bias(f"{theirs}.norm1", f"{OURS}/norm1"),
        *_fused((f"{theirs}.attn.qkv.weight", f"{theirs}.attn.qkv.bias")),
        *with_bias(f"{theirs}.attn.proj", f"{ATTENTION}/out", LINEAR),
        *scale_and_bias(f"{theirs}.norm2", f"{OURS}/norm2"),
        *with_bias(f"{theirs}.mlp.fc1", f"{OURS}/mlp1", LINEAR),
        *with_bias(f"{theirs}.mlp.fc2", f"{OURS}/mlp2", LINEAR),
        *scale_and_bias("norm", "pool/norm"),
        *with_bias("head", "head/dense", LINEAR),
        *with_bias("head_dist", "head/dense_distilled", LINEAR),
    )


def torchvision(model: ViT) -> Table:
    theirs = "encoder.layers.encoder_layer_{i}"
    fused = f"{theirs}.self_attention.in_proj"
    return (
        *with_bias("conv_proj", "embed/patch", CONV),
        Row("class_token", "params/embed/class_token"),
        Row("encoder.pos_embedding", "params/embed/position"),
        *scale_and_bias(f"{theirs}.ln_1", f"{OURS}/norm1"),
        *_fused((f"{fused}_weight", f"{fused}_bias")),
        *with_bias(f"{theirs}.self_attention.out_proj", f"{ATTENTION}/out", LINEAR),
        *scale_and_bias(f"{theirs}.ln_2", f"{OURS}/norm2"),
        *with_bias(f"{theirs}.mlp.0", f"{OURS}/mlp1", LINEAR),
        *with_bias(f"{theirs}.mlp.3", f"{OURS}/mlp2", LINEAR),
        # the same two in the published files, which are older
        *with_bias(f"{theirs}.mlp.linear_1", f"{OURS}/mlp1", LINEAR),
        *with_bias(f"{theirs}.mlp.linear_2", f"{OURS}/mlp2", LINEAR),
        *scale_and_bias("encoder.ln", "pool/norm"),
        *with_bias("heads.pre_logits", "pool/representation", LINEAR),
        *with_bias("heads.head", "head/dense", LINEAR),
    )


def huggingface(model: ViT) -> Table:
    """The files of transformers' `ViTForImageClassification` and `DeiTForImageClassificationWithTeacher` on the hub."""
    theirs = f"{_base(model)}.encoder.layer.{{i}}"
    return (
        *_around_blocks(model),
        *scale_and_bias(f"{theirs}.layernorm_before", f"{OURS}/norm1"),
        *with_bias(f"{theirs}.attention.attention.query", f"{ATTENTION}/query", LINEAR),
        *with_bias(f"{theirs}.attention.attention.key", f"{ATTENTION}/key", LINEAR),
        *with_bias(f"{theirs}.attention.attention.value", f"{ATTENTION}/value", LINEAR),
        *with_bias(f"{theirs}.attention.output.dense", f"{ATTENTION}/out", LINEAR),
        *scale_and_bias(f"{theirs}.layernorm_after", f"{OURS}/norm2"),
        *with_bias(f"{theirs}.intermediate.dense", f"{OURS}/mlp1", LINEAR),
        *with_bias(f"{theirs}.output.dense", f"{OURS}/mlp2", LINEAR),
    )


def transformers(model: ViT) -> Table:
    """The same networks in the memory of transformers 5, whose ``state_dict()`` has other names than its files."""
    theirs = f"{_base(model)}.layers.{{i}}"
    return (
        *_around_blocks(model),
        *scale_and_bias(f"{theirs}.layernorm_before", f"{OURS}/norm1"),
        *with_bias(f"{theirs}.attention.q_proj", f"{ATTENTION}/query", LINEAR),
        *with_bias(f"{theirs}.attention.k_proj", f"{ATTENTION}/key", LINEAR),
        *with_bias(f"{theirs}.attention.v_proj", f"{ATTENTION}/value", LINEAR),
        *with_bias(f"{theirs}.attention.o_proj", f"{ATTENTION}/out", LINEAR),
        *scale_and_bias(f"{theirs}.layernorm_after", f"{OURS}/norm2"),
        *with_bias(f"{theirs}.mlp.fc1", f"{OURS}/mlp1", LINEAR),
        *with_bias(f"{theirs}.mlp.fc2", f"{OURS}/mlp2", LINEAR),
    )


def _base(model: ViT) -> str:
    return "deit" if model.distilled else "vit"


def _around_blocks(model: ViT) -> Table:
    """What transformers' files and its networks name alike."""
    base = _base(model)
    return (
        *with_bias(f"{base}.embeddings.patch_embeddings.projection", "embed/patch", CONV),
        Row(f"{base}.embeddings.cls_token", "params/embed/class_token"),
        Row(f"{base}.embeddings.distillation_token", "params/embed/distillation_token"),
        Row(f"{base}.embeddings.position_embeddings", "params/embed/position"),
        *scale_and_bias(f"{base}.layernorm", "pool/norm"),
        *with_bias("cls_classifier" if model.distilled else "classifier", "head/dense", LINEAR),
        *with_bias("distillation_classifier", "head/dense_distilled", LINEAR),
        Row(f"{base}.pooler.*", None, why="transformers' pooler, from which no classifier reads"),
    )


def google(model: ViT) -> Table:
    """The ``.npz`` files of google-research's vision_transformer and big_vision, whose attention keeps the heads apart.

    Flax numbers the layers of a block through in the older files, and each kind of layer by itself in big_vision's.
    """
    theirs = "Transformer/encoderblock_{i}"
    rows: Table = ()
    for attention, norm, mlp in ((1, 2, 3), (0, 1, 0)):
        rows += _google_attention(f"{theirs}/MultiHeadDotProductAttention_{attention}", model.num_heads)
        rows += _same(f"{theirs}/LayerNorm_{norm}", f"{OURS}/norm2", "scale")
        rows += _same(f"{theirs}/MlpBlock_{mlp}/Dense_0", f"{OURS}/mlp1")
        rows += _same(f"{theirs}/MlpBlock_{mlp}/Dense_1", f"{OURS}/mlp2")

    def with_tokens(position: np.ndarray) -> tuple[np.ndarray, ...]:
        """big_vision adds positions before the class token comes: that of the token is 0."""
        if position.ndim != 3 or math.isqrt(position.shape[1]) ** 2 != position.shape[1]:
            return (position,)
        return (np.pad(position, ((0, 0), (len(model.tokens), 0), (0, 0))),)

    return (
        *_same("embedding", "embed/patch"),
        Row("cls", "params/embed/class_token"),
        Row("Transformer/posembed_input/pos_embedding", "params/embed/position"),
        Row("pos_embedding", "params/embed/position", Change(with_tokens, lambda leaf: leaf)),
        *_same(f"{theirs}/LayerNorm_0", f"{OURS}/norm1", "scale"),
        *rows,
        *_same("Transformer/encoder_norm", "pool/norm", "scale"),
        *_same("pre_logits", "pool/representation"),
        *_same("head", "head/dense"),
    )


def _google_attention(theirs: str, heads: int) -> Table:
    joined = Change(  # [width, heads, head width]
        lambda tensor: (tensor.reshape(len(tensor), -1),), lambda leaf: leaf.reshape(len(leaf), heads, -1)
    )
    joined_bias = Change(lambda tensor: (tensor.reshape(-1),), lambda leaf: leaf.reshape(heads, -1))
    joined_out = Change(  # [heads, head width, width]
        lambda tensor: (tensor.reshape(-1, tensor.shape[-1]),), lambda leaf: leaf.reshape(heads, -1, leaf.shape[-1])
    )
    projections = tuple(
        row
        for name in ("query", "key", "value")
        for row in (
            Row(f"{theirs}/{name}/kernel", f"params/{ATTENTION}/{name}/kernel", joined),
            Row(f"{theirs}/{name}/bias", f"params/{ATTENTION}/{name}/bias", joined_bias),
        )
    )
    return (
        *projections,
        Row(f"{theirs}/out/kernel", f"params/{ATTENTION}/out/kernel", joined_out),
        Row(f"{theirs}/out/bias", f"params/{ATTENTION}/out/bias"),
    )


def _same(theirs: str, ours: str, kernel: str = "kernel") -> Table:
    """Rows of a layer that is Flax's there too."""
    return tuple(Row(f"{theirs}/{leaf}", f"params/{ours}/{leaf}") for leaf in (kernel, "bias"))


def image_size(model: ViT, leaves: Mapping[str, np.ndarray]) -> int:
    """The side in pixels of the square images for which there are position embeddings.

    Raises:
      InputError: if there are none, or for an image that is not square.
    """
    shape = np.shape(leaves.get("params/embed/position", ()))
    patches = shape[1] - len(model.tokens) if len(shape) == 3 else 0
    side = math.isqrt(max(0, patches))
    if side < 1 or side**2 != patches:
        raise InputError(
            f"position embeddings of shape {shape} are not those of {len(model.tokens)} tokens and a square of "
            "patches: they are another model's, or of images that are not square"
        )
    return side * model.patch_size


def resample_positions(position: jax.Array, grid: tuple[int, int], new: tuple[int, int], prefix: int) -> jax.Array:
    """Position embeddings for another grid of patches, as timm's ``resample_abs_pos_embed`` makes them.

    Cubic interpolation, smoothed where the grid becomes smaller (``antialias``).

    Args:
      position: ``[1, prefix + h·w, width]``; those of the `prefix` tokens that stand nowhere come first and stay.
      grid: rows and columns of patches now.
      new: rows and columns wanted.
      prefix: number of such tokens.

    Returns:
      ``[1, prefix + h2·w2, width]``.
    """
    fixed, patches = position[:, :prefix], position[:, prefix:]
    patches = patches.reshape(1, *grid, -1)
    patches = jax.image.resize(patches, (1, *new, patches.shape[-1]), "cubic", antialias=True)
    return jnp.concatenate([fixed, patches.reshape(1, new[0] * new[1], -1)], axis=1)


KEYS = Keys(
    layouts={
        "timm": timm,
        "torchvision": torchvision,
        "huggingface": huggingface,
        "transformers": transformers,
        "google": google,
    },
    stem="params/embed/patch/kernel",
    image_size=image_size,
)
