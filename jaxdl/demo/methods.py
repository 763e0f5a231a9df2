"""Ways of using a pretrained network: trained by a plan, or a head fitted to its frozen features."""

from collections.abc import Callable

from jaxdl.data.source import Source
from jaxdl.training.execution import Execution
from jaxdl.training.plan import Plan
from jaxdl.training.setup import Init
from jaxdl.training.transfer import finetune
from jaxdl.validation.crossval import cross_validate
from jaxdl.validation.probes.frozen import probe_checkpoint, with_head
from jaxdl.validation.probes.probe import Probing
from jaxdl.validation.result import Result
from jaxdl.weights.checkpoint import Checkpoint

FOLDS = 5
SCRATCH = "from scratch"  # the method that does not start from the pretrained network

Method = Plan | Probing


def begin_method(
    init: Init, source: Source, method: Method, folds: int, execution: Execution
) -> tuple[Result, Callable[[], Checkpoint]]:
    """What cross-validation says of a method, and a function that trains it on all of `source`.

    Args:
      init: a `Checkpoint`, or for a plan also a model, to train from scratch.
      source: labelled examples.
      method: a plan, or a `Probing` with one head that can be put into the checkpoint: ridge, logistic or svm. Its
        penalty is then the one that all folds together choose.
      folds: of the cross-validation.
      execution: of all.

    Raises:
      InputError: if method, network and examples do not go together, or a leak is found.
    """
    if isinstance(method, Plan):
        result = cross_validate(init, source, method, folds=folds, execution=execution)
        # a fresh head, as in the folds, also where the checkpoint's own is of the same classes
        return result, lambda: finetune(init, source, method, head="fresh", execution=execution)
    (head,) = method.heads
    found = probe_checkpoint(init, source, probing=method, folds=folds, execution=execution)
    penalty, scaled = found.heads[head].best, method.standardise
    return found.result(head), lambda: with_head(
        init, source, head=head, penalty=penalty, standardise=scaled, execution=execution
    )
