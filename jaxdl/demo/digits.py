"""The tour on the embedded data: from naming ten digits to another question about others of them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxdl.data.builtin import digits
from jaxdl.data.source import Arrays, Source, subset
from jaxdl.demo.story import FOLDS, SCRATCH, Material, Say, Stopwatch
from jaxdl.models import create
from jaxdl.models.staged import Staged
from jaxdl.training.execution import Execution
from jaxdl.training.plan import Plan
from jaxdl.training.transfer import hold_out, pretrain
from jaxdl.weights.checkpoint import restore, save

# Transfer helps where the new task has few labels and asks for something that the network has learned to see. Each of
# the two new classes is five digits, which a few labelled images hardly show, and which the network can tell apart. (It
# does not help everywhere: from the digits 0 to 4 to the digits 5 to 9 training from scratch is as good.)
SHOTS = 30
KNOWN = 0.5  # share of the images that the network is pretrained on

PRETRAIN = Plan(epochs=12, learning_rate=2e-3)
# One plan for each way of using the pretrained network. A fresh head on fixed features takes a high learning rate; a
# network that is to be kept, a low one.
PLANS: dict[str, Plan] = {
    SCRATCH: Plan(epochs=30, learning_rate=2e-3),
    "frozen features": Plan(epochs=60, learning_rate=2e-2, freeze_through="body"),
    "partial fine-tuning": Plan(epochs=30, learning_rate=2e-3, freeze_through="conv1"),
    "full fine-tuning": Plan(epochs=30, learning_rate=1e-3, stage_lr={"head": 3.0}),
}


@dataclass(frozen=True, eq=False)
class DigitsTour:
    """What ``jaxdl demo`` does.

    Attributes:
      model: is pretrained to name the ten digits; a new one like it is trained from scratch.
      pretraining: its plan.
      methods: plans by the method's name; all but ``"from scratch"`` start from the pretrained network.
      shots: labelled images of even and of odd digits.
      folds: of the cross-validations.
      seed: of which images are for what.
    """

    model: Staged = field(default_factory=lambda: create("cnn", num_outputs=10))
    pretraining: Plan = PRETRAIN
    methods: Mapping[str, Plan] = field(default_factory=lambda: PLANS)
    shots: int = SHOTS
    folds: int = FOLDS
    seed: int = 0

    def prepare(self, out: Path, clock: Stopwatch, say: Say) -> Material:
        """Pretrains the network; keeps it in ``pretrained`` below `out`."""
        say("pretrain a small CNN to name the ten digits")
        known, others = two_tasks(self.seed)
        with clock.measure("pretrain"):
            parent = pretrain(self.model, known, self.pretraining, execution=Execution(progress=False))
        with clock.measure("save and restore"):
            parent = restore(save(parent, out / "pretrained"))
        labelled, unseen = few_shots(others, self.shots, self.seed)
        return Material(
            parent,
            labelled,
            unseen,
            shown="images of digits",
            lead="Pretrained to name the ten digits, transferred to the question whether a digit is even",
            title="Transfer from naming digits to telling even from odd ones",
            intro=f"A small CNN was pretrained on {len(known)} images to name the ten digits. The new task asks of "
            f"other images whether the digit is even, with {self.shots} labelled images of even and of odd digits.",
        )


def two_tasks(seed: int = 0) -> tuple[Arrays, Arrays]:
    """Images with the names of their digits, and others of which is asked whether the digit is even."""
    known, others = hold_out(digits(), 1 - KNOWN, seed)
    odd = (others.targets() % 2).astype(np.int32)
    return known, dataclasses.replace(others, labels=odd, class_names=("even", "odd"), name="digits, even or odd")


def few_shots(source: Source, shots: int, seed: int) -> tuple[Source, Source]:
    """`shots` random examples of each class, and all the others."""
    random = np.random.default_rng(seed)
    targets = source.targets()
    places = [random.permutation(np.flatnonzero(targets == c)) for c in range(len(source.class_names))]
    chosen = np.sort(np.concatenate([p[:shots] for p in places]))
    return subset(source, chosen), subset(source, np.setdiff1d(np.arange(len(source)), chosen))
