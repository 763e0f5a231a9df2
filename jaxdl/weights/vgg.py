"""VGG's weights under the names of torchvision and timm."""

import numpy as np

from jaxdl.models.vgg import POSITIONS, VGG
from jaxdl.weights.keys import CONV, LINEAR, POINTWISE, Arrays, Change, Keys, Row, Table, batch_norm, with_bias


def _flattened(tensor: np.ndarray) -> Arrays:
    """The map of all positions: others flatten channels first, we channels last."""
    kernel = tensor.reshape(tensor.shape[0], -1, POSITIONS, POSITIONS)
    return (kernel.transpose(2, 3, 1, 0).reshape(-1, tensor.shape[0]),)


def _unflattened(leaf: np.ndarray) -> np.ndarray:
    """The same map as a convolution kernel ``[out, in, 7, 7]``."""
    return leaf.reshape(POSITIONS, POSITIONS, -1, leaf.shape[-1]).transpose(3, 2, 0, 1)


FLATTENED = Change(_flattened, lambda leaf: _unflattened(leaf).reshape(leaf.shape[-1], -1))
FLATTENED_CONV = Change(_flattened, _unflattened)


def features(model: VGG) -> Table:
    """Rows of the convolutions: one list there, in which ReLU and pooling count too."""
    rows: tuple[Row, ...] = ()
    index = 0
    for block, depth in enumerate(model.depths, 1):
        for layer in range(1, depth + 1):
            rows += with_bias(f"features.{index}", f"block{block}/conv{layer}", CONV)
            if model.norm == "batch":
                rows += batch_norm(f"features.{index + 1}", f"block{block}/norm{layer}/batch")
            index += 2 if model.norm == "none" else 3
        index += 1
    return rows


def torchvision(model: VGG) -> Table:
    return (
        *features(model),
        *with_bias("classifier.0", "fc6/dense", FLATTENED),
        *with_bias("classifier.3", "fc7/dense", LINEAR),
        *with_bias("classifier.6", "head/dense", LINEAR),
    )


def timm(model: VGG) -> Table:
    return (
        *features(model),
        *with_bias("pre_logits.fc1", "fc6/dense", FLATTENED_CONV),
        *with_bias("pre_logits.fc2", "fc7/dense", POINTWISE),
        *with_bias("head.fc", "head/dense", LINEAR),
    )


KEYS = Keys({"torchvision": torchvision, "timm": timm}, stem="params/block1/conv1/kernel")
