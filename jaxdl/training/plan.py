"""Everything about a training run that is a choice."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from jaxdl.checks import check_fields
from jaxdl.data.augment import make_augmentation
from jaxdl.errors import InputError, check_choice
from jaxdl.models.staged import Staged

Optimizer = Literal["adamw", "adam", "sgd", "lamb"]
Schedule = Literal["cosine", "constant", "linear", "step"]
Precision = Literal["float32", "bfloat16"]
Parallel = Literal["jit", "pmap"]
ClassWeights = Mapping[str, float] | Literal["balanced"] | None
BODY = "body"  # for freeze_through: all stages but the head, whatever they are called


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to train. The same plan serves pretraining, fine-tuning and every fold of a cross-validation.

    Attributes:
      freeze_through: last stage to freeze, counted from the input, or 'body' for all but the head; by default none is.
      epochs: number of passes over the training examples.
      batch_size: largest number of examples in a step; the steps of an epoch are made as even as possible.
      optimizer: method of the updates; sgd has a momentum of 0.9.
      learning_rate: peak of the learning rate.
      schedule: course of the learning rate after warm-up: falling to zero (cosine, linear), constant, or divided by 10
        after half and after three quarters of the steps (step).
      warmup_epochs: number of epochs in which the learning rate rises linearly to its peak.
      weight_decay: strength of the pull of kernels towards zero, never of biases and normalisation; decoupled for adamw
        and lamb, added to the gradient for adam and sgd.
      stage_lr: factors on the learning rate of single stages, such as head=10 stage3=1; that of the others is 1.
      clip_norm: largest norm of the gradient of all trained parameters together, to which longer ones are shortened; by
        default there is no limit.
      label_smoothing: share of each training label that is spread evenly over all classes.
      precision: number format of the computation, whatever the model was made with; parameters keep theirs.
      parallel: how a batch is divided over several devices: jit over a mesh, or pmap.
      accumulate: number of parts that a batch is computed in, one after the other, to save memory; the gradient is that
        of the whole batch, but batch normalisation sees the parts.
      augment: random changes of the training images, inside the step: light, standard or strong, or single ones (crop,
        flip, colour, randaugment, mixup, cutmix, erasing); none by default. A flip makes another digit or letter.
      ema: decay of a running mean of the parameters, such as 0.999, with which to predict; 0 for none. After t steps it
        is at most (1 + t) / (10 + t), so that in runs of few steps 0.9 and 0.99 are the same (81 steps reach 0.9, 891
        reach 0.99).
      class_weights: factors on the loss of single classes, such as rare=5 common=1, or 'balanced' for the inverse of
        their frequency in the training part; 1 by default.
      unfreeze_every: epochs after which one more stage is trained, from the head towards the input, beginning with
        those that freeze_through leaves; by default none is.
      early_stopping: epochs without a smaller loss on an inner part of the training examples, after which training
        stops; the weights of the best epoch are kept. By default it never does.
      inner_fraction: share of the training examples that early_stopping holds out as its inner part.
      eval_every: number of epochs between measurements on the examples that are held out.
      seed: number that every random draw is derived from.
      cache_features: compute the activations of frozen stages once and keep them, if they fit in memory.
    """

    freeze_through: str | None = None
    epochs: int = 20
    batch_size: int = 32
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    warmup_epochs: float = 0.0
    weight_decay: float = 1e-4
    stage_lr: Mapping[str, float] = dataclasses.field(default_factory=dict)
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    precision: Precision = "float32"
    parallel: Parallel = "jit"
    accumulate: int = 1
    augment: tuple[str, ...] = ()
    ema: float = 0.0
    class_weights: ClassWeights = None
    unfreeze_every: int | None = None
    early_stopping: int | None = None
    inner_fraction: float = 0.2
    eval_every: int = 1
    seed: int = 0
    cache_features: bool = True

    def __post_init__(self):
        if isinstance(self.augment, str):
            object.__setattr__(self, "augment", (self.augment,))
        check_fields(self)
        for name in ("epochs", "batch_size", "accumulate", "eval_every", "unfreeze_every", "early_stopping"):
            value = getattr(self, name)
            _require(name, value, value is None or value >= 1, "a whole number of at least 1")
        _require("seed", self.seed, 0 <= self.seed < 2**32, "from 0 to 4294967295")
        _require("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "more than 0")
        _require("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "at least 0")
        _require("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "from 0 to below 1")
        _require("warmup_epochs", self.warmup_epochs, 0 <= self.warmup_epochs <= self.epochs, "from 0 to epochs")
        _require("clip_norm", self.clip_norm, self.clip_norm is None or self.clip_norm > 0, "more than 0")
        _require("accumulate", self.accumulate, self.accumulate <= self.batch_size, f"at most {self.batch_size} parts")
        _require("ema", self.ema, 0 <= self.ema < 1, "from 0 to below 1")
        _require("inner_fraction", self.inner_fraction, 0 < self.inner_fraction < 1, "between 0 and 1")
        names = tuple(self.augment)
        make_augmentation(names)  # checks them
        object.__setattr__(self, "augment", () if names == ("none",) else names)
        if self.unfreeze_every and not self.freeze_through:
            raise InputError("unfreeze_every needs freeze_through: the stages that are frozen at first, such as 'body'")
        for name, factor in self.class_weights.items() if isinstance(self.class_weights, Mapping) else ():
            _require(f"class_weights of '{name}'", factor, 0 <= factor < math.inf, "at least 0")
        for stage, factor in self.stage_lr.items():
            _require(
                f"stage_lr of '{stage}'", factor, 0 < factor < math.inf, "more than 0; to freeze, use freeze_through"
            )

    def boundary(self, model: Staged) -> int:
        """How many stages of `model`, counted from the input, are frozen.

        Raises:
          InputError: for a stage that the model has not, or if nothing would be left to train.
        """
        names = model.stage_names
        for stage in self.stage_lr:
            check_choice(f"stage of {type(model).__name__} in stage_lr", stage, names)
        frozen = self._boundary(model)
        if (idle := set(names[:frozen]) & set(self.stage_lr)) and not self.unfreeze_every:
            raise InputError(
                f"stage_lr names stages that are frozen: {', '.join(sorted(idle))}; they have no learning rate"
            )
        return frozen

    def _boundary(self, model: Staged) -> int:
        names = model.stage_names
        if self.freeze_through is None:
            return 0
        if self.freeze_through == BODY:
            return len(names) - 1
        check_choice(f"stage of {type(model).__name__}", self.freeze_through, (*names, BODY))
        if self.freeze_through == names[-1]:
            raise InputError(
                f"freeze_through='{names[-1]}' freezes every stage and leaves nothing to train; the last that can be "
                f"frozen is '{names[-2]}'"
            )
        return names.index(self.freeze_through) + 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = {**dataclasses.asdict(self), "stage_lr": dict(self.stage_lr), "augment": list(self.augment)}
        if isinstance(self.class_weights, Mapping):
            plain["class_weights"] = dict(self.class_weights)
        return plain


def _require(name: str, value: Any, fine: bool, expected: str) -> None:
    if not fine:
        raise InputError(f"{name} is {value}; expected {expected}")
