"""Leave-one-out without refits: exact for ridge, approximate and checked for logistic regression and the SVM."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.validation.probes import approximate
from jaxdl.validation.probes.heads import Examples, Fold, finished
from jaxdl.validation.probes.linear import fit_folds, fit_logistic, fit_svm
from jaxdl.validation.probes.ridge import ridge_leaving_one_out, ridge_targets
from jaxdl.validation.probes.standard import Shared, Standard, alone

CLOSED = ("ridge", "logistic", "svm")
CHECKED = 10  # examples that are refitted to check an approximation
TIGHT = 1e-7  # tolerance of the fit that is approximated around, and of the refits
SCALE_NOTE = "columns are scaled by all examples, the one that is left out included (its label has no say in it)"


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Outputs ``[grid, examples, classes or 1]``, the gradient that was left, and how far from true refits they are."""

    outputs: np.ndarray
    gradient: float | None
    approximation: Mapping[str, Any] | None


def leave_one_out(head: str, examples: Examples, grid: np.ndarray) -> LeftOut:
    """Every example as all others predict it, for the heads of `CLOSED`.

    Raises:
      InputError: if the problem is too large for an approximation.
    """
    count = len(examples.labels)
    everything = np.arange(count)
    fold = Fold(examples, everything, everything[:1], (count, 1))
    with jax.enable_x64(True):
        standard = fold.standard(np.float64)
        if head == "ridge":
            made = ridge_leaving_one_out(standard, ridge_targets(examples.labels, examples.classes), grid).predictions
            return LeftOut(finished(made, examples.classes), None, None)
        fit = fit_svm if head == "svm" else fit_logistic
        path = fit(standard, examples.labels, examples.classes, grid, tolerance=TIGHT)
        loss = {"svm": "hinge", "logistic": "sigmoid" if examples.classes == 2 else "softmax"}[head]
        signs = ridge_targets(examples.labels, examples.classes)
        targets = {"hinge": signs, "sigmoid": (signs + 1) / 2, "softmax": (signs + 1) / 2}[loss]
        made = approximate.leave_one_out(standard, targets, path, grid, loss=loss)
        checked = _check(head, standard, examples, grid, made)
        return LeftOut(finished(made, examples.classes), float(path.gradient.max()), checked)


def _check(
    head: str, standard: Standard, examples: Examples, grid: np.ndarray, approximated: np.ndarray
) -> dict[str, Any]:
    """Refits without each of some examples, drawn by the seed, and compares the outputs."""
    count = len(examples.labels)
    chosen = np.sort(np.random.default_rng(examples.seed).permutation(count)[:CHECKED])
    weight = jnp.ones((CHECKED, count))[: len(chosen)].at[jnp.arange(len(chosen)), chosen].set(0)
    whole = alone(standard)
    rest = Shared(whole.features, weight, *(jnp.repeat(a, len(chosen), 0) for a in (whole.mean, whole.inverse)))
    refits = fit_folds(head, rest, examples.labels, examples.classes, grid, chosen[:, None], tolerance=TIGHT)
    refits = refits.outputs[:, :, 0]  # [refits, grid, outputs]
    apart = np.abs(refits - np.moveaxis(approximated[:, chosen], 1, 0)).max(-1)
    spread = refits.std((0, 2))
    return {
        "method": "approximate leave-one-out (Rad and Maleki 2020)",
        "refits": chosen.tolist(),
        "largest_error": apart.max(0).tolist(),
        "mean_error": apart.mean(0).tolist(),
        "spread_of_outputs": spread.tolist(),
    }
