"""How far stages moved, against numbers worked out by hand."""

import numpy as np
import pytest

from jaxdl.report.parameter_change import stage_parameter_change


def variables(**stages):
    return {"params": stages, "batch_stats": {"first": {"mean": np.ones(3)}}}


def test_distance_is_relative_to_where_a_stage_began():
    before = variables(
        first={"kernel": np.float32([[3, 0], [0, 0]]), "bias": np.float32([0, 4])},  # of norm 5
        still={"kernel": np.ones((2, 2), np.float32)},
        zero={"bias": np.zeros(3)},
        head={"kernel": np.ones((2, 3))},
        empty={},
    )
    after = variables(
        first={"kernel": np.float32([[3, 0], [0, 1.2]]), "bias": np.float32([0, 5.6])},  # by (1.2, 1.6): of norm 2
        still={"kernel": np.ones((2, 2), np.float32)},
        zero={"bias": np.ones(3)},
        head={"kernel": np.ones((2, 5))},
        empty={},
    )
    after["batch_stats"]["first"]["mean"] = np.zeros(3)
    found = stage_parameter_change(before, after, ("first", "still", "zero", "head", "empty", "nowhere"))
    assert found["first"] == pytest.approx(0.4)
    assert found["still"] == 0
    assert found["zero"] == float("inf")
    assert found["head"] is found["empty"] is found["nowhere"] is None


def test_other_parameters_cannot_be_compared():
    before, after = variables(stage={"kernel": np.ones(2)}), variables(stage={"scale": np.ones(2)})
    assert stage_parameter_change(before, after, ("stage",)) == {"stage": None}
