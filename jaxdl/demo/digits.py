"""The tour on the embedded data: transfer from five digits to five others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxdl.data.builtin import digits
from jaxdl.data.source import Source, subset
from jaxdl.demo.methods import FOLDS, SCRATCH
from jaxdl.demo.story import Material, Say, Stopwatch
from jaxdl.models import create
from jaxdl.models.staged import Staged
from jaxdl.training.execution import Execution
from jaxdl.training.plan import Plan
from jaxdl.training.transfer import pretrain
from jaxdl.weights.checkpoint import restore, save

SHOTS = 30

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
      model: is pretrained on the digits 0 to 4; a new one like it is trained from scratch.
      pretraining: its plan.
      methods: plans by the method's name; all but ``"from scratch"`` start from the pretrained network.
      shots: labelled images of each of the digits 5 to 9.
      folds: of the cross-validations.
    """

    model: Staged = field(default_factory=lambda: create("cnn", num_outputs=5))
    pretraining: Plan = PRETRAIN
    methods: Mapping[str, Plan] = field(default_factory=lambda: PLANS)
    shots: int = SHOTS
    folds: int = FOLDS

    def prepare(self, out: Path, clock: Stopwatch, say: Say) -> Material:
        """Pretrains the network; keeps it in ``pretrained`` below `out`."""
        say("pretrain a small CNN on the digits 0 to 4")
        with clock.measure("pretrain"):
            source = digits(range(5))
            parent = pretrain(self.model, source, self.pretraining, execution=Execution(progress=False))
        with clock.measure("save and restore"):
            parent = restore(save(parent, out / "pretrained"))
        labelled, unseen = few_shots(digits(range(5, 10)), self.shots, seed=0)
        return Material(
            parent,
            labelled,
            unseen,
            shown="images of the digits 5 to 9",
            lead="Pretrained on the digits 0 to 4, transferred to 5 to 9",
            title="Transfer from the digits 0 to 4 to the digits 5 to 9",
            intro=f"A small CNN was pretrained on {len(source)} images of the digits 0 to 4. The new task has "
            f"{self.shots} labelled images of each of the digits 5 to 9.",
        )


def few_shots(source: Source, shots: int, seed: int) -> tuple[Source, Source]:
    """`shots` random examples of each class, and all the others."""
    random = np.random.default_rng(seed)
    targets = source.targets()
    places = [random.permutation(np.flatnonzero(targets == c)) for c in range(len(source.class_names))]
    chosen = np.sort(np.concatenate([p[:shots] for p in places]))
    return subset(source, chosen), subset(source, np.setdiff1d(np.arange(len(source)), chosen))
