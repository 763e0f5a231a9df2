"""A plan and its parts: flat from outside, each value checked by the part that has it."""

import dataclasses
import json
import math

import numpy as np
import pytest

from jaxdl.errors import InputError
from jaxdl.training.adapter import Adapter
from jaxdl.training.plan import Plan
from jaxdl.training.plan_parts import Optimisation, Part, Regularisation, Transfer, require

PARTS = (Transfer, Optimisation, Regularisation)
# What the release before `train` and `adapter` wrote of a plan at its defaults.
BEFORE = {
    "freeze_through": None,
    "epochs": 20,
    "batch_size": 32,
    "optimizer": "adamw",
    "learning_rate": 0.001,
    "schedule": "cosine",
    "warmup_epochs": 0.0,
    "weight_decay": 0.0001,
    "stage_lr": {},
    "clip_norm": None,
    "label_smoothing": 0.0,
    "precision": "float32",
    "accumulate": 1,
    "augment": [],
    "ema": 0.0,
    "class_weights": None,
    "unfreeze_every": None,
    "early_stopping": None,
    "inner_fraction": 0.2,
    "eval_every": 1,
    "seed": 0,
    "cache_features": True,
}
REFUSED = [
    (dict(freeze_through=3), "freeze_through is 3"),
    (dict(train="bias"), "Did you mean 'biases'"),
    (dict(train="head"), "expected one of: all, biases, norm"),
    (dict(adapter="lroa:4"), "Did you mean 'lora'"),
    (dict(adapter="lora:4:head"), "always trained whole"),
    (dict(adapter=4), "adapter is 4"),
    (dict(unfreeze_every=2), "needs freeze_through"),
    (dict(unfreeze_every=0, freeze_through="body"), "unfreeze_every is 0"),
    (dict(stage_lr={"head": 0.0}), "stage_lr of 'head' is 0"),
    (dict(cache_features="no"), "cache_features is 'no'"),
    (dict(epochs=0), "epochs is 0"),
    (dict(batch_size=-1), "batch_size is -1"),
    (dict(accumulate=64), "accumulate is 64; expected at most 32"),
    (dict(accumulate=0), "accumulate is 0"),
    (dict(group_by_length="yes"), "group_by_length is 'yes'"),
    (dict(optimizer="adamx"), "Did you mean 'adam"),
    (dict(learning_rate=math.nan), "learning_rate is nan"),
    (dict(schedule="cosin"), "Did you mean 'cosine'"),
    (dict(warmup_epochs=21), "warmup_epochs is 21"),
    (dict(clip_norm=0.0), "clip_norm is 0"),
    (dict(ema=1.0), "ema is 1.0"),
    (dict(precision="float16"), "expected one of: float32, bfloat16"),
    (dict(eval_every=0), "eval_every is 0"),
    (dict(seed=-1), "seed is -1"),
    (dict(weight_decay=-1.0), "weight_decay is -1"),
    (dict(label_smoothing=1.0), "label_smoothing is 1"),
    (dict(class_weights="balance"), "balanced"),
    (dict(class_weights={"a": -1.0}), "class_weights of 'a' is -1.0"),
    (dict(loss_function="dise"), "Did you mean 'dice'"),
    (dict(augment=("flipp",)), "'flipp'.*flip"),
    (dict(augment="flipp"), "'flipp'.*flip"),
    (dict(early_stopping=0), "early_stopping is 0"),
    (dict(inner_fraction=1.0), "inner_fraction is 1.0"),
]


def names_of(kind):
    return [field.name for field in dataclasses.fields(kind)]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_a_plan_refuses_what_cannot_be(options, said):
    with pytest.raises(InputError, match=said):
        Plan(**options)
    part = next(part for part in PARTS if options.keys() <= set(names_of(part)))
    with pytest.raises(InputError, match=said):
        part(**options)


def test_every_field_is_checked():
    assert {next(iter(options)) for options, _ in REFUSED} == set(names_of(Plan))


def test_every_field_has_one_part_and_the_plan_is_flat():
    assert names_of(Plan) == [name for part in PARTS for name in names_of(part)]
    assert len(set(names_of(Plan))) == len(names_of(Plan))
    plan = dataclasses.replace(Plan(epochs=3, stage_lr={"head": 2.0}), train="norm", augment="flip")
    assert (plan.epochs, plan.stage_lr, plan.train, plan.augment) == (3, {"head": 2.0}, "norm", ("flip",))
    assert plan == Plan(**vars(plan)) != Plan()
    assert list(vars(plan)) == names_of(Plan)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.epochs = 4
    with pytest.raises(InputError):
        dataclasses.replace(plan, epochs=0)


def test_a_part_is_added_from_outside():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Boxes(Part):
        """Of a task of one's own."""

        anchors: int = 3

        def check(self):
            require("anchors", self.anchors, self.anchors >= 1, "at least 1")

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class BoxPlan(Boxes, Plan):
        """Its fields and the plan's."""

    assert BoxPlan(anchors=2, epochs=4).as_dict() == {**Plan(epochs=4).as_dict(), "anchors": 2}
    for wrong in ({"anchors": 0}, {"anchors": "many"}, {"epochs": 0}, {"adapter": "lora:0"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            BoxPlan(**wrong)


def test_fields_that_came_later_are_noted_where_they_change_something():
    assert Plan().as_dict() == BEFORE
    assert Plan(train="biases", adapter="lora:4").as_dict() == {**BEFORE, "train": "biases", "adapter": "lora:4"}
    held = json.loads(json.dumps(Plan(train="norm", class_weights={"a": 2.0}, augment="flip").as_dict()))
    assert Plan(**held) == Plan(train="norm", class_weights={"a": 2.0}, augment="flip")


def test_the_adapter_of_a_plan():
    assert Plan().parsed_adapter is None
    assert Plan(adapter="lora:4:stage2").parsed_adapter == Adapter(4, ("stage2",))


def test_numbers_of_numpy_are_pythons():
    plan = Plan(learning_rate=np.float32(0.5), epochs=np.int64(3), stage_lr={"head": np.float32(2)})
    assert plan == Plan(learning_rate=0.5, epochs=3, stage_lr={"head": 2.0})
    assert hash(plan) == hash(Plan(learning_rate=0.5, epochs=3, stage_lr={"head": 2.0}))
