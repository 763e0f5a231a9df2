"""The parts of a plan: each holds some of its fields, says what they mean, and checks them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jaxdl.checks import check_fields
from jaxdl.data.augment import make_augmentation
from jaxdl.errors import InputError
from jaxdl.training.adapter import Adapter

Train = Literal["all", "biases", "norm"]
Optimizer = Literal["adamw", "adam", "sgd", "lamb"]
Schedule = Literal["cosine", "constant", "linear", "step", "one-cycle"]
Precision = Literal["float32", "bfloat16"]
LossFunction = Literal["cross_entropy", "focal", "dice", "cross_entropy+dice"]
ClassWeights = Mapping[str, float] | Literal["balanced"] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What all parts have in common: a value of the wrong type, or one that `check` refuses, is an `InputError`."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        check_fields(self)
        for part in reversed(type(self).__mro__):  # a plan is several parts
            if "check" in vars(part):
                part.check(self)

    def check(self) -> None:
        """Checks the values of the fields that this very class adds; their types are right."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer(Part):
    """Which parameters are trained, and by how much.

    Attributes:
      freeze_through: last stage to freeze, counted from the input, or 'body' for all but the head; by default none is.
      train: which parameters are trained in stages that are not frozen: all, biases alone, or scales and biases of
        normalisation alone (norm); the head is always trained whole.
      adapter: low-rank additions to dense and convolution layers, lora:RANK: in all stages that are not frozen, or in
        those (or layers, such as stage2/*/conv1) that follow after another colon; never in the head. Of the body's own
        parameters then only those of train biases or norm are trained; by default there are no additions. An adapter
        that the checkpoint has goes on if it is the very same, and else is merged into the kernels first.
      unfreeze_every: epochs after which one more stage is trained, from the head towards the input, beginning with
        those that freeze_through leaves; by default none is.
      stage_lr: factors on the learning rate of single stages, such as head=10 stage3=1; that of the others is 1.
      cache_features: compute the activations of frozen stages once and keep them, if they fit in memory.
    """

    freeze_through: str | None = None
    train: Train = "all"
    adapter: str | None = None
    unfreeze_every: int | None = None
    stage_lr: Mapping[str, float] = dataclasses.field(default_factory=dict)
    cache_features: bool = True

    def check(self) -> None:
        _check_count(self, "unfreeze_every")
        if self.unfreeze_every and not self.freeze_through:
            raise InputError("unfreeze_every needs freeze_through: the stages that are frozen at first, such as 'body'")
        for stage, factor in self.stage_lr.items():
            require(
                f"stage_lr of '{stage}'", factor, 0 < factor < math.inf, "more than 0; to freeze, use freeze_through"
            )
        _ = self.parsed_adapter  # checks it

    @property
    def freezes(self) -> bool:
        """Whether some parameter is not trained, or not in all epochs."""
        return bool(self.freeze_through or self.adapter) or self.train != "all"

    @property
    def parsed_adapter(self) -> Adapter | None:
        """What `adapter` says; None without one."""
        return None if self.adapter is None else Adapter.parse(self.adapter)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimisation(Part):
    """How the loss is made small: passes, batches, steps.

    Attributes:
      epochs: number of passes over the training examples.
      batch_size: largest number of examples in a step; the steps of an epoch are made as even as possible.
      accumulate: number of parts that a batch is computed in, one after the other, to save memory; the gradient is that
        of the whole batch, but batch normalisation sees the parts.
      group_by_length: make batches of sequences that are about equally long, and take them in random order, so that
        less padding is computed; for sequences in memory. Else each batch is as long as the longest in it.
      optimizer: method of the updates; sgd has a momentum of 0.9.
      learning_rate: peak of the learning rate.
      schedule: course of the learning rate after warm-up: falling to zero (cosine, linear), constant, divided by 10
        after half and after three quarters of the steps (step), or rising over the first 30 % of the steps from 1/25 of
        the peak and falling to almost zero (one-cycle, which has no other warm-up; Smith & Topin 2018).
      warmup_epochs: number of epochs in which the learning rate rises linearly to its peak.
      clip_norm: largest norm of the gradient of all trained parameters together, to which longer ones are shortened; by
        default there is no limit.
      ema: decay of a running mean of the parameters, such as 0.999, with which to predict; 0 for none. After t steps it
        is at most (1 + t) / (10 + t), so that in runs of few steps 0.9 and 0.99 are the same (81 steps reach 0.9, 891
        reach 0.99).
      precision: number format of the computation, whatever the model was made with; parameters keep theirs.
      eval_every: number of epochs between measurements on the examples that are held out.
      seed: number that every random draw is derived from.
    """

    epochs: int = 20
    batch_size: int = 32
    accumulate: int = 1
    group_by_length: bool = False
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    warmup_epochs: float = 0.0
    clip_norm: float | None = None
    ema: float = 0.0
    precision: Precision = "float32"
    eval_every: int = 1
    seed: int = 0

    def check(self) -> None:
        _check_count(self, "epochs", "batch_size", "accumulate", "eval_every")
        require("accumulate", self.accumulate, self.accumulate <= self.batch_size, f"at most {self.batch_size} parts")
        require("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "more than 0")
        require("warmup_epochs", self.warmup_epochs, 0 <= self.warmup_epochs <= self.epochs, "from 0 to epochs")
        if self.schedule == "one-cycle" and self.warmup_epochs:
            raise InputError(
                f"warmup_epochs is {self.warmup_epochs}, but the schedule one-cycle has a rise of its own; leave "
                "warmup_epochs out, or take the schedule cosine"
            )
        require("clip_norm", self.clip_norm, self.clip_norm is None or self.clip_norm > 0, "more than 0")
        require("ema", self.ema, 0 <= self.ema < 1, "from 0 to below 1")
        require("seed", self.seed, 0 <= self.seed < 2**32, "from 0 to 4294967295")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regularisation(Part):
    """What keeps a network from learning its training examples by heart, and how much each of them counts.

    Attributes:
      weight_decay: strength of the pull of kernels towards zero, never of biases and normalisation; decoupled for adamw
        and lamb, added to the gradient for adam and sgd.
      label_smoothing: share of each training label that is spread evenly over all classes.
      class_weights: factors on the loss of single classes, such as rare=5 common=1, or 'balanced' for the inverse of
        their frequency in the training part; 1 by default.
      loss_function: of a segmentation: cross-entropy over all pixels, focal (less of pixels that are sure), dice (1 -
        Dice of each image and class, for classes of few pixels), or cross_entropy+dice; by default cross_entropy.
      augment: random changes of the training images, inside the step: light, standard or strong, or single ones (crop,
        flip, colour, randaugment, mixup, cutmix, erasing); none by default. A flip makes another digit or letter.
      early_stopping: epochs without a smaller loss on an inner part of the training examples, after which training
        stops; the weights of the best epoch are kept. By default it never does.
      inner_fraction: share of the training examples that early_stopping holds out as its inner part.
    """

    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    class_weights: ClassWeights = None
    loss_function: LossFunction | None = None
    augment: str | tuple[str, ...] = ()
    early_stopping: int | None = None
    inner_fraction: float = 0.2

    def check(self) -> None:
        require("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "at least 0")
        require("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "from 0 to below 1")
        for name, factor in self.class_weights.items() if isinstance(self.class_weights, Mapping) else ():
            require(f"class_weights of '{name}'", factor, 0 <= factor < math.inf, "at least 0")
        names = (self.augment,) if isinstance(self.augment, str) else tuple(self.augment)
        make_augmentation(names)  # checks them
        object.__setattr__(self, "augment", () if names == ("none",) else names)
        _check_count(self, "early_stopping")
        require("inner_fraction", self.inner_fraction, 0 < self.inner_fraction < 1, "between 0 and 1")


def require(name: str, value: Any, fine: bool, expected: str) -> None:
    """Raises InputError, with the name of the field, its value and what was expected, unless it is `fine`."""
    if not fine:
        raise InputError(f"{name} is {value}; expected {expected}")


def _check_count(part: Part, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        require(name, value, value is None or value >= 1, "a whole number of at least 1")


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's: a plan is compared, and written as JSON."""
    if isinstance(value, np.generic):
        return value.item()
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, Mapping) else value
