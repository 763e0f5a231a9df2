"""Where a network looked: Grad-CAM for networks with feature maps, attention roll-out for transformers.

Of text: gradient times input for all that read tokens.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdl.errors import InputError, check_choice
from jaxdl.identity import remembered
from jaxdl.models.compiled import compiled
from jaxdl.models.sequence import masked_last, masked_mean
from jaxdl.models.staged import Staged
from jaxdl.models.variables import Variables
from jaxdl.models.vit import ViT

Method = Literal["Grad-CAM", "attention roll-out"]


def explains_with(model: Staged, variables: Variables, input_shape: Sequence[int]) -> Method | None:
    """The method that suits `model` for inputs of `input_shape`; None if it has neither maps nor attention."""
    if isinstance(model, ViT):
        return "attention roll-out" if model.depth else None
    return None if last_spatial_stage(model, variables, input_shape) is None else "Grad-CAM"


def explain(
    model: Staged, variables: Variables, x: Float[Array, "batch height width channels"], classes: Int[Array, " batch"]
) -> Float[Array, "batch rows columns"]:
    """A map of where the network looked, at least 0, by the method of `explains_with`.

    Args:
      model: the network.
      variables: of all its stages.
      x: images as they flow into the first stage, normalised.
      classes: that the map is to speak for; attention roll-out is the same for all classes.

    Raises:
      InputError: if no method suits the model.
    """
    method = explains_with(model, variables, x.shape[1:])
    if method is None:
        raise InputError(f"{type(model).__name__} has no stage whose output is a map, and no attention between patches")
    if method == "Grad-CAM":
        return grad_cam(model, variables, x, classes)
    return rollout_map(model, variables, x)


def last_spatial_stage(model: Staged, variables: Variables, input_shape: Sequence[int]) -> str | None:
    """The last stage before the head whose output is one array ``[batch, height, width, channels]`` of several places.

    None if there is none.
    """
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda held: held, variables))
    return _last_spatial(model, structure, tuple(leaves), tuple(input_shape))


@remembered(maxsize=64)  # a page asks once for each picture
def _last_spatial(model: Staged, structure: Any, leaves: tuple[Any, ...], input_shape: tuple[int, ...]) -> str | None:
    names = model.outlets[:-1]
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.tree.unflatten(structure, leaves)
    _, tapped = jax.eval_shape(lambda v, a: model.apply(v, a, taps=names), variables, x)
    spatial = [name for name in names if _is_map(tapped[name])]
    return spatial[-1] if spatial else None


def _is_map(value: object) -> bool:
    leaves = jax.tree.leaves(value)
    return len(leaves) == 1 and leaves[0].ndim == 4 and leaves[0].shape[1] * leaves[0].shape[2] > 1


def grad_cam(
    model: Staged,
    variables: Variables,
    x: Float[Array, "batch height width channels"],
    classes: Int[Array, " batch"],
    stage: str | None = None,
) -> Float[Array, "batch rows columns"]:
    """Grad-CAM: Selvaraju et al. 2017 (arXiv:1610.02391), equations 1 and 2.

    With Aᵏ the channels that flow out of `stage` and yᶜ the logit of class c: ReLU(Σₖ αₖ Aᵏ), where αₖ is the mean over
    all places of ∂yᶜ/∂Aᵏ. Behind global average pooling and a linear head it is the class activation map of Zhou et al.
    2016 (arXiv:1512.04150), divided by the number of places and with its negative parts cut.

    Args:
      model: the network; its batch normalisation runs in eval mode.
      variables: of all its stages.
      x: images as they flow into the first stage, normalised.
      classes: of which logit, per image.
      stage: whose output is looked at; by default the last that is spatial.

    Raises:
      InputError: if there is no such stage or its output is no map.
    """
    stage = stage or last_spatial_stage(model, variables, x.shape[1:])
    if stage is None:
        raise InputError(f"{type(model).__name__} has no stage whose output is a map [batch, height, width, channels]")
    if stage == model.stage_names[-1]:
        raise InputError(f"Grad-CAM looks at a stage before the last, '{stage}'")
    after = model.stage_names[model.stage_index(stage) + 1]
    check_choice("stage with an output of its own", stage, model.outlets)
    return compiled(_grad_cam, model, after=after)(variables, jnp.asarray(x), jnp.asarray(classes))


def _grad_cam(variables: Variables, x: jax.Array, classes: jax.Array, *, model: Staged, after: str) -> jax.Array:
    maps = model.apply(variables, x, stop=after)
    if not (hasattr(maps, "ndim") and maps.ndim == 4):
        raise InputError(f"what flows into '{after}' is no map [batch, height, width, channels]")

    def total(maps: jax.Array) -> jax.Array:  # one example's logit does not depend on another's map
        logits = model.apply(variables, maps, start=after).astype(jnp.float32)
        return jnp.take_along_axis(logits, classes[:, None], axis=1).sum()

    weights = jax.grad(total)(maps).astype(jnp.float32).mean((1, 2), keepdims=True)
    return jax.nn.relu((weights * maps.astype(jnp.float32)).sum(-1))


def attention_rollout(attention: Sequence[Float[Array, "batch heads to from"]]) -> Float[Array, "batch to from"]:
    """Attention roll-out: Abnar & Zuidema 2020 (arXiv:2005.00928), section 3.

    How much of each input token reaches each output token if attention alone moved them: the product over layers of
    ½ Ā + ½ I, with Ā the mean over heads, where the identity stands for the residual connection. Rows sum to one.

    Args:
      attention: weights of each layer from input to output, rows summing to one.

    Raises:
      InputError: without layers.
    """
    if not attention:
        raise InputError("attention roll-out needs the weights of at least one layer")
    layers = [0.5 * weights.mean(1) + 0.5 * jnp.eye(weights.shape[-1]) for weights in attention]
    return reduce(lambda below, layer: layer @ below, layers)


def rollout_map(
    model: ViT, variables: Variables, x: Float[Array, "batch height width channels"]
) -> Float[Array, "batch rows columns"]:
    """Attention roll-out from the patches to what the head sees: the class token, or the mean of all tokens.

    A map with an entry per patch; with a class token its own share is left out. With a distillation token beside it,
    the mean of the two.

    Raises:
      InputError: if the model is no vision transformer, or has no blocks.
    """
    if not isinstance(model, ViT):
        raise InputError(f"attention roll-out is for a vit; the model is a {type(model).__name__}")
    if not model.depth:
        raise InputError("a vit of depth 0 has no attention to roll out")
    return compiled(_rollout_map, model)(variables, jnp.asarray(x))


def _rollout_map(variables: Variables, x: jax.Array, *, model: ViT) -> jax.Array:
    taps = tuple(f"block{i + 1}/attention" for i in range(model.depth))
    _, tapped = model.apply(variables, x, taps=taps)
    rolled = attention_rollout([tapped[tap].astype(jnp.float32) for tap in taps])
    front = len(model.tokens)  # the head reads the tokens in front of the patches, or all where there are none
    share = rolled[:, : front or None].mean(1)[:, front:]
    return share.reshape(len(x), x.shape[1] // model.patch_size, x.shape[2] // model.patch_size)


def reads_tokens(model: Staged) -> bool:
    """Whether a vector for each token flows out of the first stage of a model of sequences."""
    return model.SEQUENCES and len(model.cuts) > 1


def gradient_times_input(
    model: Staged, variables: Variables, x: Any, classes: Int[Array, " batch"]
) -> Float[Array, "batch length"]:
    """How much each token speaks for a class, to first order: Shrikumar et al. 2016 (arXiv:1605.01713).

    With eₜ the vector of token t that flows out of the first stage and yᶜ the logit of class c: eₜ · ∂yᶜ/∂eₜ. Zero
    where there is no token.

    Args:
      model: of sequences, see `reads_tokens`.
      variables: of all its stages.
      x: as it flows into the first stage.
      classes: of which logit, per text.
    """
    x = jax.tree.map(jnp.asarray, x)
    return compiled(_gradient_times_input, model, after=model.cuts[1])(variables, x, jnp.asarray(classes))


def _gradient_times_input(variables: Variables, x: Any, classes: jax.Array, *, model: Staged, after: str) -> jax.Array:
    flow = model.apply(variables, x, stop=after)

    def total(hidden: jax.Array) -> jax.Array:  # one text's logit does not depend on another's tokens
        logits = model.apply(variables, {**flow, "hidden": hidden}, start=after).astype(jnp.float32)
        return jnp.take_along_axis(logits, classes[:, None], axis=1).sum()

    hidden = flow["hidden"]
    scores = (hidden * jax.grad(total)(hidden)).astype(jnp.float32).sum(-1)
    return jnp.where(flow["mask"], scores, 0)


def _attention_of(model: Staged) -> tuple[str, ...]:
    return tuple(f"{name}/attention" for name in model.stage_names if name.startswith("block"))


def rolls_out(model: Staged) -> bool:
    """Whether attention roll-out says what reaches the features of a model of sequences."""
    return reads_tokens(model) and bool(_attention_of(model))


def attention_to_tokens(model: Staged, variables: Variables, x: Any) -> Float[Array, "batch length"]:
    """Attention roll-out from the tokens to the features: of the first or the last token, else the mean of all.

    Arguments as of `gradient_times_input`, and see `rolls_out`.
    """
    return compiled(_attention_to_tokens, model)(variables, jax.tree.map(jnp.asarray, x))


def _attention_to_tokens(variables: Variables, x: Any, *, model: Staged) -> jax.Array:
    taps = _attention_of(model)
    _, tapped = model.apply(variables, x, taps=taps)
    rolled = attention_rollout([tapped[tap].astype(jnp.float32) for tap in taps])
    mask = x["mask"].astype(bool)
    if model.pool in ("pooler", "token"):
        share = rolled[:, 0]
    else:
        share = (masked_last if model.pool == "last" else masked_mean)(rolled, mask)
    return jnp.where(mask, share, 0)
