"""What went wrong in a training, from what it recorded: the cause first, then the advice that suits it.

The evidence: learning curves, norms of the stages' gradients, units that are dead, and the temperature that suits the
held-out examples. The thresholds are rules of thumb, which the sentences state.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl.report.units import known_scores
from jaxdl.validation.result import Result

SHARPER = 0.7  # a temperature below which probabilities are far too timid
ALIKE = 0.85  # of the held-out loss: with a training loss above this share nothing was learned by heart
VANISHING, EXPLODING = 1e-3, 1e2
DEAD = 0.5  # share of a stage's units
LEARNING = 0.1  # of all that the training loss fell by: what the second half had of it where training was not done
RISEN = 1.5  # times its smallest value: a training loss that ends there has diverged
JUMPS = 1 / 3  # of the epochs: where the loss rose in so many the rate is too high
LOWER = "a lower learning_rate, warmup_epochs or clip_norm"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Of a training, the mean over its folds.

    Attributes:
      train_loss: of each epoch, ``float64[epochs]``; empty if it is not known.
      norms: norm of the gradient of each stage in each epoch, ``[epochs]``, in the order of the stages.
      dead: share of the units that are the same for every example, by stage but the head; empty if it is not known.
    """

    train_loss: np.ndarray
    norms: Mapping[str, np.ndarray]
    dead: Mapping[str, float] = dataclasses.field(default_factory=dict)


def evidence_of(rows: Sequence[Mapping[str, Any]], dead: Mapping[str, float] | None = None) -> Evidence:
    """What rows of learning curves say; see `Evidence`."""
    told = [row for row in rows if row.get("train_loss") is not None]
    epochs = sorted({row["epoch"] for row in told})
    losses = [np.mean([row["train_loss"] for row in told if row["epoch"] == epoch]) for epoch in epochs]
    stages = list(dict.fromkeys(stage for row in rows for stage in row.get("stage_grad_norms") or ()))
    return Evidence(np.array(losses, np.float64), {stage: norms_by_epoch(rows, stage) for stage in stages}, dead or {})


def norms_by_epoch(rows: Sequence[Mapping[str, Any]], stage: str) -> np.ndarray:
    """Norm of the gradient of a stage, mean over folds, ``[epochs]``; NaN where it has none, as while it is frozen."""
    rows = [row for row in rows if row.get("stage_grad_norms")]
    epochs = sorted({row["epoch"] for row in rows})
    values = [[_norm(row, stage) for row in rows if row["epoch"] == epoch] for epoch in epochs]
    finite = [[value for value in each if np.isfinite(value)] for each in values]
    return np.array([np.mean(each) if each else np.nan for each in finite])


def _norm(row: Mapping[str, Any], stage: str) -> float:
    value = row["stage_grad_norms"].get(stage)
    return float("nan") if value is None else float(value)


def known_norms(norms: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The finite ones by stage, of the stages that have any."""
    known = {stage: values[np.isfinite(values)] for stage, values in norms.items()}
    return {stage: values for stage, values in known.items() if len(values)}


def exploded(norms: Mapping[str, np.ndarray]) -> list[str]:
    """Stages whose gradient grew to more than `EXPLODING` times that of the first epoch."""
    return [s for s, values in known_norms(norms).items() if values.max() > EXPLODING * max(values[0], 1e-12)]


def vanished(norms: Mapping[str, np.ndarray]) -> tuple[list[str], str]:
    """Stages whose gradient is below `VANISHING` of the largest one over the median epoch, and the stage of that."""
    typical = {stage: float(np.median(values)) for stage, values in known_norms(norms).items()}
    if not typical:
        return [], ""
    largest = max(typical, key=typical.__getitem__)
    return [stage for stage, value in typical.items() if value < VANISHING * typical[largest]], largest


def dead_stages(dead: Mapping[str, float]) -> str:
    """The stages most of whose units are dead, with their shares, as text; empty if there are none."""
    return ", ".join(f"{stage} ({share:.0%})".replace("%", " %") for stage, share in dead.items() if share >= DEAD)


def judge_dead(dead: Mapping[str, float]) -> str:
    """A sentence with advice where most units of a stage are dead; empty where they are not."""
    if not (listed := dead_stages(dead)):
        return ""
    return (
        f"Most units of {listed} are dead: they are the same for every example, and a ReLU that is zero for all of "
        f"them has no gradient and stays so. Train again from the start with {LOWER}, with normalisation, or with "
        "another activation function than ReLU. A larger learning rate or more epochs do not bring them back."
    )


def judge_rate(found: Evidence) -> str:
    """A sentence with advice where the learning rate was too high; empty where nothing says so."""
    if grown := exploded(found.norms):
        return (
            f"Exploding: the gradient of {', '.join(grown)} grew to more than 100 times that of the first epoch; "
            "clip_norm or a lower learning rate helps."
        )
    loss = found.train_loss
    if len(loss) < 3:
        return ""
    lowest, last = float(loss.min()), float(loss[-1])
    if last > RISEN * lowest:
        said = f"The training loss rose again, from {lowest:.3g} to {last:.3g}: the learning rate is too high."
        return f"{said} Try {LOWER}."
    rises = int((np.diff(loss) > 0.02 * loss[:-1]).sum())
    if len(loss) >= 6 and rises > JUMPS * (len(loss) - 1) and last > 1.05 * lowest:
        return (
            f"The training loss jumps: it rose in {rises} of {len(loss) - 1} epochs. The learning rate is too high, or "
            f"the batches are small. Try {LOWER}, or a larger batch_size."
        )
    return ""


def still_learning(train_loss: np.ndarray) -> bool:
    """Whether the second half of a training still brought more than `LEARNING` of all that its loss fell by."""
    if len(train_loss) < 2:
        return True
    fell = train_loss[0] - train_loss[-1]
    return bool(fell > 0 and train_loss[(len(train_loss) - 1) // 2] - train_loss[-1] > LEARNING * fell)


def diagnose(result: Result, dead: Mapping[str, float] | None = None) -> str | None:
    """What went wrong in the trainings of a result, with what may help; None where nothing says so.

    Dead units come first, then a rate that is too high, then a training that ended too early. The sign of the last is
    that probabilities would have to be sharpened a great deal (the temperature that suits held-out examples is far
    below 1, Guo et al. 2017) while the networks fit what they were trained on hardly better than what was held out.
    Label smoothing and augmentation do the same to networks that are well trained; with these nothing is said of it.

    Args:
      result: of a cross-validation.
      dead: see `Evidence`; None where the networks are not there.
    """
    found = evidence_of(result.curves, dead)
    return judge_dead(found.dead) or judge_rate(found) or _judge_length(result, found)


def _judge_length(result: Result, found: Evidence) -> str | None:
    if not result.calibration or result.plan.get("label_smoothing") or result.plan.get("augment"):
        return None
    if not len(found.train_loss):
        return None
    last = {row["fold"]: row["train_loss"] for row in result.curves if "train_loss" in row}
    temperature = float(np.mean(result.calibration["temperatures"]))
    trained, held_out = float(np.mean(list(last.values()))), float(np.mean(known_scores(result.folds, "loss")))
    if temperature >= SHARPER or trained < ALIKE * held_out:
        return None
    signs = (
        f"sharper probabilities would fit held-out examples better (temperature {temperature:.2f}), and the loss is "
        f"{trained:.2f} even on what they were trained on, {held_out:.2f} on what was held out"
    )
    if result.cached:
        return (
            f"The head on the frozen body has not come to its optimum: {signs}. jaxdl probe fits heads on frozen "
            "features to their optimum; more epochs or a larger learning_rate of the head come closer to it."
        )
    if vanished(found.norms)[0]:
        return f"The networks learned little: {signs}. {judge_gradients(found.norms)}"
    if still_learning(found.train_loss):
        return (
            f"The networks look trained too little: {signs}. The training loss was still falling. More epochs or a "
            "larger learning rate (jaxdl find-lr, or jaxdl search with --space learning_rate=log:1e-3:1e-1) may do "
            "better."
        )
    return (
        f"The networks stopped learning early: {signs}, and the second half of the training brought nothing. More "
        "epochs alone will not help; another learning rate (jaxdl find-lr), less weight_decay or dropout, or fewer "
        "frozen stages may."
    )


def judge_gradients(norms: Mapping[str, np.ndarray], dead: Mapping[str, float] | None = None) -> str:
    """A sentence on whether gradients vanish towards the input or explode, by thumb's rules that it states.

    Args:
      norms: ``[epochs]`` by stage, in their order from the input.
      dead: see `Evidence`; None where it is not known, which the advice then depends on.
    """
    if not known_norms(norms):
        return "No gradient was finite."
    faint, largest = vanished(norms)
    said = []
    if faint:
        said.append(
            f"Vanishing: over the median epoch the gradient of {', '.join(faint)} is below a thousandth of that of "
            f"{largest}; such stages hardly learn."
        )
        if dead is None:
            said.append(
                "Where units are dead (see Activations, for which the networks have to be kept), a lower learning rate "
                "from the start helps; where they are not, normalisation or another activation function does."
            )
        elif listed := dead_stages(dead):
            said.append(f"The cause: most units of {listed} are dead. See Activations for what helps.")
        else:
            said.append(
                "Few units are dead, so that the gradient is only small: normalisation, another activation function or "
                "a larger stage_lr helps."
            )
    if exploded(norms):
        said.append(judge_rate(Evidence(np.empty(0), norms)))
    return " ".join(said) or (
        "No stage's gradient vanishes (all are above a thousandth of the largest) or explodes (none grew to 100 times "
        "its first value)."
    )


def why_ended(rows: Sequence[Mapping[str, Any]], plan: Mapping[str, Any]) -> str:
    """Why learning curves end where they do, and whether anything was still being learned there; empty if unknown."""
    if not rows or "epochs" not in plan:
        return ""
    last: dict[Any, int] = {}
    for row in rows:
        last[row.get("fold", 0)] = max(row["epoch"], last.get(row.get("fold", 0), 0))
    ends, asked = sorted(last.values()), int(plan["epochs"])
    early = sum(end < asked for end in ends)
    if early:
        span = f"{ends[0]}" if ends[0] == ends[-1] else f"{ends[0]} to {ends[-1]}"
        who = f"{early} of {len(ends)} trainings" if len(ends) > 1 else "The training"
        patience = plan.get("early_stopping")
        said = f"{who} ended before epoch {asked} (after {span}): early stopping found no better epoch for {patience}."
    else:
        said = f"The curves end after {asked} epoch{'s' if asked > 1 else ''}, as the plan says."
    loss = evidence_of(rows).train_loss
    if len(loss) < 2 or early:
        return said
    if loss[-1] > loss[0] or loss[-1] > RISEN * loss.min():
        how = "had risen again"
    else:
        how = "was still falling" if still_learning(loss) else "hardly fell any more in the second half"
    return f"{said} The training loss {how}."
