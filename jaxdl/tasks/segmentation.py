"""A class for every pixel: semantic segmentation."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from jaxdl.data.masks_classes import MOST, VOID
from jaxdl.errors import InputError, check_choice
from jaxdl.models.staged import Staged
from jaxdl.tasks.boundaries import boundary_counts
from jaxdl.tasks.class_weights import ClassWeights
from jaxdl.tasks.classification import Classification
from jaxdl.tasks.columns import SHARES, as_cells
from jaxdl.tasks.metric import ERROR, SHARE, Metric, Record, Sums, mean_of_defined
from jaxdl.tasks.task import Constants

CERTAIN = 255  # what a confidence of 1 is stored as
LOSSES = ("cross_entropy", "focal", "dice", "cross_entropy+dice")
FOCUS = 2.0  # gamma of the focal loss


# From sums over pixels of hits, targets and predictions by class: one confusion matrix of the whole set, never a mean
# over images or batches.


def _counts(record: Record) -> np.ndarray:
    """``float64[n, 3 · classes]``: hits, targets and predictions."""
    return np.concatenate([record["hits"], record["targets"], record["predictions"]], 1).astype(np.float64)


def _by_class(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hits, targets, predictions = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    return hits, targets, predictions


def _iou(sums: np.ndarray) -> np.ndarray:
    hits, targets, predictions = _by_class(sums)
    return hits / (targets + predictions - hits)


def _dice(sums: np.ndarray) -> np.ndarray:
    hits, targets, predictions = _by_class(sums)
    return 2 * hits / (targets + predictions)


def _accuracy(sums: np.ndarray) -> np.ndarray:
    hits, targets, _ = _by_class(sums)
    return hits.sum(-1) / targets.sum(-1)


def _boundary_f1(sums: np.ndarray) -> np.ndarray:
    """The harmonic mean of precision and recall of the pixels on boundaries; mean over the classes that have any."""
    found, said, met, there = np.moveaxis(sums.reshape(*sums.shape[:-1], 4, -1), -2, 0)
    precision, recall = found / said, met / there
    f1 = 2 * precision * recall / (precision + recall)
    f1 = np.where((said > 0) & (there > 0) & (found + met == 0), 0.0, f1)
    return mean_of_defined(np.where((said > 0) != (there > 0), 0.0, f1), -1)


def of_class(place: int, name: str) -> tuple[Metric, Metric]:
    """IoU and Dice of the class at `place`, called ``iou:NAME`` and ``dice:NAME``."""
    undefined = "no pixel of a fold is of the class, and none is predicted to be"
    return tuple(
        Sums(f"{kind}:{name}", combine=lambda sums, of=of: of(sums)[..., place], undefined=undefined, **SHARE, **PIXELS)
        for kind, of in (("iou", _iou), ("dice", _dice))
    )


PIXELS = dict(columns=_counts, reads=("hits", "targets", "predictions"))
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        # over the classes that occur or are predicted, as in scikit-learn's jaccard_score
        Sums("mean_iou", combine=lambda sums: mean_of_defined(_iou(sums), -1), **SHARE, **PIXELS),
        Sums("mean_dice", combine=lambda sums: mean_of_defined(_dice(sums), -1), **SHARE, **PIXELS),
        Sums("pixel_accuracy", combine=_accuracy, **SHARE, **PIXELS),
        Sums(
            "pixel_error",
            combine=lambda sums: 1 - _accuracy(sums),
            higher_is_better=False,
            bounds=(0.0, 1.0),
            best=0.0,
            scale="distance",
            **PIXELS,
        ),
        Sums(
            "boundary_f1",
            columns=lambda record: np.asarray(record["boundary"], np.float64).reshape(len(record["boundary"]), -1),
            combine=_boundary_f1,
            reads=("boundary",),
            undefined="no two neighbouring pixels are of different classes",
            **SHARE,
        ),
        Sums(
            "cross_entropy",
            columns=lambda record: np.stack([record["nats"], record["pixels"]], 1).astype(np.float64),
            combine=lambda sums: sums[..., 0] / sums[..., 1],
            reads=("nats", "pixels"),
            **ERROR,
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Segmentation(ClassWeights):
    """A class for every pixel; targets are ``uint8[n, height, width]``, `VOID` where nobody knows it.

    Outputs are logits ``[batch, height, width, classes]``.

    Attributes:
      names: of the classes.
      class_weights: factors on the loss of pixels of single classes by name, 1 for the others, or ``"balanced"`` for
        the inverse of their frequency in the training part; None for none.
      loss_function: ``"cross_entropy"`` over all pixels; ``"focal"``, which counts those less of which the network is
        sure (Lin et al. 2017, arXiv:1708.02002, gamma 2); ``"dice"``, 1 - the soft Dice of each image and class
        (Milletari et al. 2016, arXiv:1606.04797), for classes of few pixels; ``"cross_entropy+dice"``, the sum of the
        two over each image. None for cross-entropy.
    """

    class_weights: Mapping[str, float] | str | None = None
    loss_function: str | None = None

    name = "segmentation"
    METRICS = METRICS
    LOSS = "cross_entropy"
    SHOWN = ("mean_iou", "pixel_accuracy")
    SECTIONS = ("pixels", "overlays")
    DRAWS = True
    FUNCTIONS = False
    OPTIONS = ("class_weights", "loss_function")
    NOT_CONFORMAL = "an answer is a whole mask, of which there are too many to list those that may be true"
    PREDICTS = "classes: of each pixel the number of a name of the task; confidence: its probability times 255"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.names) > MOST:
            raise InputError(f"there are {len(self.names)} classes; a mask can tell {MOST} apart")
        if self.loss_function is not None:
            check_choice("loss_function", self.loss_function, LOSSES)

    @classmethod
    def fits(cls, targets: Any, names: Sequence[str]) -> bool:
        return isinstance(targets, np.ndarray) and targets.ndim == 3 and targets.dtype == np.uint8

    metrics_of = staticmethod(of_class)

    @property
    def num_outputs(self) -> int:
        return len(self.names)

    def describe(self) -> str:
        return f"segmentation into {len(self.names)} classes ({self.first_names()})"

    def check(self, targets: Any, count: int, data: str, purpose: str) -> None:
        if not self.fits(targets, self.names) or len(targets) != count:
            raise InputError(
                f"the labels of {data} are no {count} masks; expected uint8[n, height, width] with the number of a "
                f"class for each pixel, {VOID} where it is not known; see data.masks and data.arrays"
            )
        if len(self.names) < 2:
            raise InputError(f"{data} names {len(self.names)} classes; {purpose} needs at least two of pixels")
        pixels = _histogram(targets)
        if (beyond := np.flatnonzero(pixels[len(self.names) : VOID])).size:
            raise InputError(
                f"the masks of {data} hold {len(self.names) + beyond[-1]}; with {len(self.names)} class names expected "
                f"0 to {len(self.names) - 1}, or {VOID} for void"
            )
        present = np.flatnonzero(pixels[: len(self.names)])
        if len(present) < 2:
            held = f"one class ('{self.names[present[0]]}')" if len(present) else "void pixels alone"
            raise InputError(f"the masks of {data} hold {held}; {purpose} needs pixels of at least two classes")

    def check_parts(self, targets: np.ndarray, parts: Sequence[np.ndarray], purpose: str) -> None:
        images = _count_on_host(targets, len(self.names)) > 0  # that have a class
        for part in parts:
            lacking = np.flatnonzero(images.any(0) & ~images[part].any(0))
            if len(lacking):
                listed = ", ".join(f"'{self.names[i]}' (in {images[:, i].sum()} of {len(images)})" for i in lacking)
                raise InputError(
                    f"{purpose}: the training part of a fold has no pixel of the class {listed}: nobody can learn it "
                    "there. Make such pixels void or part of another class, or divide otherwise (another --seed, other "
                    "groups, more folds)"
                )

    def match(self, targets: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Pixels of classes that are none of the task's own become void."""
        places = np.full(256, VOID, np.uint8)
        for number, name in enumerate(names):
            places[number] = self.names.index(name) if name in self.names else VOID
        return places[targets]

    def fit_model(self, model: Staged, spec: Any) -> Staged:
        """A network for whole images becomes the encoder of a `UNet`."""
        from jaxdl.models.initialise import batch_of
        from jaxdl.models.unet import UNet

        if self.name == model.ANSWERS:
            return model
        made = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], batch_of(spec))
        if made.ndim == 4:
            if made.shape[1:3] != spec.shape[:2]:
                raise InputError(
                    f"the {type(model).__name__} makes {made.shape[1]} × {made.shape[2]} logits of images of "
                    f"{spec.shape[0]} × {spec.shape[1]} pixels; segmentation needs logits for every pixel"
                )
            return model
        return UNet(
            self.num_outputs,
            model.dtype,
            model.param_dtype,
            encoder=model.clone(num_outputs=1, **PLAIN),
            **AROUND_ENCODER,
        )

    def of_place(self) -> Classification:
        """The class of a pixel, scored by the mean F1 over classes, which is their mean Dice."""
        return Classification(self.names, metric="macro_f1")

    def baseline(self, targets: np.ndarray, count: int) -> dict[str, np.ndarray]:
        """The most frequent class, everywhere."""
        pixels = _histogram(targets)[: len(self.names)]
        shape = (count, *targets.shape[1:])
        confidence = round(CERTAIN * pixels.max() / pixels.sum())
        return {"classes": np.full(shape, pixels.argmax(), np.uint8), "confidence": np.full(shape, confidence, "u1")}

    def fit(self, targets: np.ndarray) -> Constants:
        """``class_weights``, ``float32[classes]``, where they are asked for."""
        return self.factors(lambda: _histogram(targets)[: len(self.names)], "pixel")

    def fit_weighted(self, targets: np.ndarray, weights: np.ndarray) -> Constants:
        """As `fit`; a pixel counts by the weight of its image."""
        each = lambda: sum(w * _histogram(one) for w, one in zip(weights, targets, strict=True))  # noqa: E731
        return self.factors(lambda: each()[: len(self.names)], "pixel")

    def loss(
        self,
        outputs: Float[Array, "batch height width classes"],
        targets: UInt8[Array, "batch height width"],
        constants: Constants,
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """The loss function, times the weights of classes, and the sum of these over pixels.

        With Dice in it the loss of an image, and 1 (0 for an image that is all void).
        """
        outputs = outputs.astype(jnp.float32)
        weights = constants.get("class_weights", jnp.ones(len(self.names)))
        is_class = targets[..., None] == jnp.arange(len(self.names))  # void is none
        chosen = (is_class * weights).sum(-1)
        kind = self.loss_function or LOSSES[0]
        nats = -jnp.where(is_class, jax.nn.log_softmax(outputs), 0.0).sum(-1)
        if kind == "focal":
            nats = nats * (1 - jnp.exp(-nats)) ** FOCUS
        total, count = (nats * chosen).sum((1, 2)), chosen.sum((1, 2))
        if "dice" not in kind:
            return total, count
        known = is_class.any((1, 2, 3)).astype(jnp.float32)
        dice = known * (1 - _soft_dice(outputs, is_class, weights))
        return dice + (total / jnp.maximum(count, 1e-30) if "cross_entropy" in kind else 0.0), known

    def train_scores(self, record: Record) -> dict[str, jax.Array]:
        return {"pixel_accuracy": record["hits"].sum(-1) / jnp.maximum(record["targets"].sum(-1), 1)}

    def predict(self, outputs: Float[Array, "batch height width classes"], constants: Constants) -> dict[str, Array]:
        """The class of each pixel and its probability times 255, ``uint8[batch, height, width]`` both."""
        p = jax.nn.softmax(outputs.astype(jnp.float32))
        sure = jnp.round(CERTAIN * p.max(-1)).astype(jnp.uint8)
        return {"classes": outputs.argmax(-1).astype(jnp.uint8), "confidence": sure}

    def keep(self, outputs: Any, targets: Any, constants: Constants) -> dict[str, Array]:
        """As `predict`, and ``nats``, ``float32[batch]``: the sum of the cross-entropies of the known pixels."""
        plain = dataclasses.replace(self, loss_function=None)
        return {**self.predict(outputs, constants), "nats": plain.loss(outputs, targets, {})[0]}

    def record(self, kept: Any, targets: Any) -> dict[str, Any]:
        """What all metrics are made of, on the device for jax arrays, on the host for numpy arrays.

        Args:
          kept: as `keep` or `predict` gives it.
          targets: ``uint8[n, height, width]``.

        Returns:
          ``hits``, ``targets``, ``predictions``: numbers of known pixels by class, ``int[n, classes]``; ``pixels``:
          known ones ``[n]``; ``confidence``: mean probability of their predicted classes, ``[n]``; ``boundary``: see
          `boundary_counts`; ``nats`` where `kept` has it.
        """
        said, classes = kept["classes"], len(self.names)
        xp = np if isinstance(said, np.ndarray) else jnp
        known = targets != VOID
        count = _count_on_host if xp is np else _count_on_device
        found = {
            "hits": count(xp.where(known & (said == targets), targets, VOID), classes),
            "targets": count(targets, classes),
            "predictions": count(xp.where(known, said, VOID), classes),
            "pixels": known.sum((1, 2)),
            "confidence": (kept["confidence"] * known).sum((1, 2)) / CERTAIN / xp.maximum(known.sum((1, 2)), 1),
            "boundary": boundary_counts(said, targets, classes),
        }
        return found | ({"nats": kept["nats"]} if "nats" in kept else {})

    def predicted(self, kept: Mapping[str, np.ndarray]) -> np.ndarray:
        """The class of each pixel, ``uint8[n, height, width]``."""
        return kept["classes"]

    def columns(self, kept: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """The class that most pixels of an image have, the mean confidence, and the share of pixels of each class."""
        maps = kept["classes"]
        shares = np.stack([np.bincount(one.ravel(), minlength=len(self.names)) / one.size for one in maps])
        confidence = as_cells([np.mean(one) / CERTAIN for one in kept["confidence"]])
        by_name = {f"{SHARES}{name}": as_cells(shares[:, i]) for i, name in enumerate(self.names)}
        return {"mostly": [self.names[i] for i in shares.argmax(1)], "confidence": confidence, **by_name}

    def pictures(self, kept: Mapping[str, Any]) -> list[Any]:
        """Palette images with the number of a class for each pixel, in the colours of `palette`."""
        from PIL import Image

        made = []
        for one in kept["classes"]:
            image = Image.fromarray(np.asarray(one), "P")
            image.putpalette(palette(VOID + 1).ravel().tolist())
            made.append(image)
        return made

    def target_words(self, targets: np.ndarray) -> list[str]:
        """The classes of each mask."""
        return [", ".join(self.names[i] for i in np.unique(one) if i < len(self.names)) for one in targets]

    def mirrored(self, kept: Mapping[str, jax.Array], mirror: Callable[[jax.Array], jax.Array]) -> dict[str, jax.Array]:
        return {name: mirror(maps) for name, maps in kept.items()}

    def combine(self, kept: Mapping[str, jax.Array], weights: jax.Array) -> dict[str, jax.Array]:
        """The class for which the networks' confidences add up to most: each votes for one, as strongly as it is sure.

        The confidence is the share of that sum among the sum of the weights: of what the networks think of their second
        choices nothing is kept.
        """
        votes = kept["confidence"].astype(jnp.float32) * weights[..., None, None]
        sums = [jnp.where(kept["classes"] == i, votes, 0.0).sum(0) for i in range(len(self.names))]
        sums = jnp.stack(sums, -1)
        share = sums.max(-1) / weights.sum(0)[..., None, None]
        return {"classes": sums.argmax(-1).astype(jnp.uint8), "confidence": jnp.round(share).astype(jnp.uint8)}


def palette(count: int) -> np.ndarray:
    """``uint8[count, 3]``: a colour for each class, as Pascal VOC chooses them: the bits of its number, spread."""
    numbers = np.arange(count)[:, None]
    colours = np.zeros((count, 3), np.uint8)
    for place in range(8):
        bits = (numbers >> 3 * place >> np.arange(3)) & 1
        colours |= (bits << 7 - place).astype(np.uint8)
    return colours


# of the U-Net that segmentation makes of a network for whole images
AROUND_ENCODER = dict(width=16, upsample="nearest")
PLAIN = dict(dtype="float32", param_dtype="float32")  # an encoder computes as the network around it does


def _soft_dice(outputs: Array, is_class: Array, weights: Array) -> Array:
    """Of each image, ``[batch]``: the weighted mean over the classes that it has."""
    known = is_class.any(-1, keepdims=True)
    p = jax.nn.softmax(outputs) * known
    both, either = (p * is_class).sum((1, 2)), p.sum((1, 2)) + is_class.sum((1, 2))
    here = is_class.any((1, 2)) * weights
    dice = 2 * both / jnp.maximum(either, 1e-6)
    return (here * dice).sum(-1) / jnp.maximum(here.sum(-1), 1e-30)


def _histogram(targets: np.ndarray) -> np.ndarray:
    """``int[256]``: pixels of each value; image by image, since numpy makes int64 of what it counts."""
    return sum((np.bincount(one.ravel(), minlength=256) for one in targets), np.zeros(256, np.int64))


def _count_on_host(maps: np.ndarray, classes: int) -> np.ndarray:
    return np.stack([np.bincount(one.ravel(), minlength=256)[:classes] for one in maps])


def _count_on_device(maps: jax.Array, classes: int) -> jax.Array:
    return (maps[..., None] == jnp.arange(classes)).sum((1, 2))
