"""Everything about a training run that is a choice."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from jaxdl.errors import InputError, check_choice
from jaxdl.models.own import own_name
from jaxdl.models.staged import Staged
from jaxdl.training.plan_parts import Optimisation, Regularisation, Transfer

BODY = "body"  # for freeze_through: all stages but the head, whatever they are called
# Fields of later releases, whose defaults are what earlier ones did. At these `as_dict` leaves them out, so that a
# run begun by an earlier release goes on, and is not refused for other settings.
LATER = ("train", "adapter", "loss_function", "group_by_length")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Regularisation, Optimisation, Transfer):  # the fields of the last come first
    """How to train. The same plan serves pretraining, fine-tuning and every fold of a cross-validation.

    Its fields are those of its parts, which say what they mean: `Transfer`, `Optimisation` and `Regularisation`, all in
    training/plan_parts.py. A part with fields of its own is added by inheriting from it.
    """

    def __hash__(self) -> int:  # its dicts have none
        return hash(json.dumps(self.as_dict(), sort_keys=True))

    def boundary(self, model: Staged) -> int:
        """How many stages of `model`, counted from the input, are frozen.

        Raises:
          InputError: for a stage that the model does not have, or if nothing would be left to train.
        """
        names = model.stage_names
        for stage in self.stage_lr:
            check_choice(f"stage of {own_name(model)} in stage_lr", stage, names)
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
        check_choice(f"stage of {own_name(model)}", self.freeze_through, tuple(dict.fromkeys((*names, BODY))))
        if self.freeze_through == names[-1]:
            raise InputError(
                f"freeze_through='{names[-1]}' freezes every stage and leaves nothing to train; the last that can be "
                f"frozen is '{names[-2]}'"
            )
        return names.index(self.freeze_through) + 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; without `LATER` fields that are at their defaults."""
        plain = {**dataclasses.asdict(self), "stage_lr": dict(self.stage_lr), "augment": list(self.augment)}
        if isinstance(self.class_weights, Mapping):
            plain["class_weights"] = dict(self.class_weights)
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in plain.items() if name not in LATER or value != defaults[name]}
