"""The methods of a demo: trained by a plan, or a head fitted to frozen features."""

from collections.abc import Callable

from jaxdl.data.source import Source
from jaxdl.training.execution import Execution
from jaxdl.training.setup import Init
from jaxdl.validation.recommend.methods import Method, fit_method, score_method
from jaxdl.validation.result import Result
from jaxdl.weights.checkpoint import Checkpoint

FOLDS = 5
SCRATCH = "from scratch"  # the method that does not start from the pretrained network


def begin_method(
    init: Init, source: Source, method: Method, folds: int, execution: Execution
) -> tuple[Result, Callable[[], Checkpoint]]:
    """What cross-validation says of a method, and a function that trains it on all of `source`.

    Arguments as of `score_method`. A head's penalty is then the one that all folds together choose.
    """
    result = score_method(init, source, method, folds=folds, execution=execution)
    return result, lambda: fit_method(init, source, method, result.plan, execution=execution)
