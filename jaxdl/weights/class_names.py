"""Names of the classes of published weights."""

from functools import cache
from importlib.resources import files

VESSELS = ("background", "vessel")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@cache
def class_names(which: str, outputs: int) -> tuple[str, ...]:
    """Names of the `outputs` classes as in `Published.class_names`, or none where the number is another."""
    names = {"cifar10": CIFAR10, "vessels": VESSELS}.get(which) or imagenet_classes()
    return names if len(names) == outputs else ()


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 classes of ImageNet-1k in their usual order, each with a name of its own.

    They are torchvision's (BSD-3-Clause), except for five that differ from another by little more than a capital:
    these say what they are, by the definitions in timm (Apache-2.0).
    """
    return tuple((files("jaxdl.weights") / "imagenet_classes.txt").read_text().splitlines())
