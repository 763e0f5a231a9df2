"""CIFAR ResNets with PyTorch names, as in akamaster/pytorch_resnet_cifar10."""

from pathlib import Path

from jaxdl.data.preprocessing import Preprocessing
from jaxdl.errors import InputError
from jaxdl.models import create
from jaxdl.weights.checkpoint import Card, Checkpoint
from jaxdl.weights.convert import Row, apply_table, batch_norm, oihw_to_hwio, read_npz_weights, sha256_of, transpose

BLOCK = r"layer(\d)\.(\d+)"
OURS = r"stage\1/block{\2}"

TABLE: tuple[Row, ...] = (
    (r"conv1\.weight", "params/stem/conv/kernel", oihw_to_hwio),
    *batch_norm("bn1", "stem/norm"),
    (rf"{BLOCK}\.conv(\d)\.weight", rf"params/{OURS}/conv\3/kernel", oihw_to_hwio),
    *batch_norm(rf"{BLOCK}\.bn(\d)", rf"{OURS}/norm\3"),
    (r"linear\.weight", "params/head/dense/kernel", transpose),
    (r"linear\.bias", "params/head/dense/bias", None),
)

# what the published networks were trained with: images in 0..1, these channel statistics
PREPROCESSING = Preprocessing((32, 32, 3), "uint8", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load_resnet_cifar(name: str, path: str | Path) -> Checkpoint:
    """A published CIFAR-10 ResNet.

    Args:
      name: ``resnet20_cifar`` and so on, as the file's depth.
      path: ``.npz`` of tensors with PyTorch names and layout (``[out, in, height, width]``).

    Returns:
      A checkpoint with ten outputs; its card names the file and its sha256.

    Raises:
      InputError: for another kind of model, or listing every tensor that does not fit.
    """
    if not name.endswith("_cifar"):
        raise InputError(f"'{name}' is no CIFAR ResNet; expected resnet20_cifar, resnet32_cifar, …")
    model = create(name, num_outputs=len(CLASSES))
    variables = apply_table(read_npz_weights(path), TABLE, model, PREPROCESSING.input_shape)
    source = {"file": Path(path).name, "sha256": sha256_of(path)}
    return Checkpoint(model, variables, Card(PREPROCESSING, CLASSES, source=source))
