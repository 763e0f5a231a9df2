"""A sign that training ended too early, which a score alone does not show."""

import numpy as np

from jaxdl.report.units import known_scores
from jaxdl.validation.result import Result

SHARPER = 0.7  # a temperature below which probabilities are far too timid
ALIKE = 0.85  # of the held-out loss: with a training loss above this share nothing was learned by heart


def underfit(result: Result) -> str | None:
    """Says so if the networks look trained too little, with what may help; None if they do not.

    They do if their probabilities would have to be sharpened a great deal (the temperature that suits held-out
    examples is far below 1, Guo et al. 2017) while they fit what they were trained on hardly better than what was held
    out. Label smoothing and augmentation do the same to networks that are well trained; with these nothing is said.
    """
    if not result.calibration or result.plan.get("label_smoothing") or result.plan.get("augment"):
        return None
    last = {row["fold"]: row["train_loss"] for row in result.curves if "train_loss" in row}
    if not last:
        return None
    temperature = float(np.mean(result.calibration["temperatures"]))
    trained, held_out = float(np.mean(list(last.values()))), float(np.mean(known_scores(result.folds, "loss")))
    if temperature >= SHARPER or trained < ALIKE * held_out:
        return None
    probe = "jaxdl probe fits heads on frozen features to their optimum. " if result.cached else ""
    return (
        "The networks look trained too little: sharper probabilities would fit held-out examples better (temperature "
        f"{temperature:.2f}), and the loss is {trained:.2f} even on what they were trained on, {held_out:.2f} on what "
        f"was held out. {probe}More epochs or a larger learning rate (jaxdl find-lr, or jaxdl search with --space "
        "learning_rate=log:1e-3:1e-1) may do better."
    )
