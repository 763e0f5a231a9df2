"""Ways of using a network, from the simplest to the one that changes most; how each is scored, and fitted."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.models import describe
from jaxdl.models.adapters import layers_of, patterns_that_fit
from jaxdl.models.initialise import batch_of
from jaxdl.tasks import Task
from jaxdl.training.execution import Execution
from jaxdl.training.plan import BODY, Plan
from jaxdl.training.setup import Init
from jaxdl.training.transfer import finetune
from jaxdl.validation.crossval import cross_validate
from jaxdl.validation.probes.frozen import check_head, probe_checkpoint, with_head
from jaxdl.validation.probes.probe import Probing
from jaxdl.validation.result import Result
from jaxdl.validation.splits import Splitting
from jaxdl.weights.checkpoint import Checkpoint

Method = Plan | Probing

PROBE, FROZEN, PARTIAL, LORA, FULL, SCRATCH = "probe", "frozen", "partial", "lora", "full", "scratch"
KINDS = (PROBE, FROZEN, PARTIAL, LORA, FULL, SCRATCH)  # from the simplest
OF_A_CHECKPOINT = KINDS[:-1]
NAMES = {
    FROZEN: "frozen body",
    PARTIAL: "partial",
    LORA: "LoRA",
    FULL: "full",
    SCRATCH: "scratch",
}
LONGER = 6  # times the epochs for a fresh head alone, whose epochs on kept features cost next to nothing
RANK = 4  # of LoRA
# Learning rates, the one that is tried first in front. A body with batch normalisation was trained by SGD with momentum
# and is tuned so; others (transformers, ConvNeXt, small networks) by AdamW. A head alone takes a high rate, and so do
# low-rank additions, about ten times that of the parameters themselves. A BERT's take the low ones of AdamW's.
HEAD_RATES, LORA_RATES, SCRATCH_RATES = (1e-2,), (1e-3, 1e-2), (3e-3, 1e-3)
BODY_RATES = {"sgd": (1e-2, 1e-3), "adamw": (1e-4, 1e-3)}
LOW_RATES = (1e-4, 3e-5)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way of using a network.

    Attributes:
      kind: of `KINDS`.
      name: for tables.
      method: a plan, or a `Probing` with one head that can be put into the checkpoint.
    """

    kind: str
    name: str
    method: Method

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return self.name.lower().replace(" ", "-")


def candidates(
    init: Init,
    source: Source,
    task: Task,
    shared: Mapping[str, int],
    execution: Execution = Execution(),  # noqa: B008
) -> tuple[list[Candidate], dict[str, str]]:
    """The ways of using `init`, from the simplest, and by name why others do not apply.

    Args:
      init: a checkpoint; a model can only be trained from scratch.
      source: the examples.
      task: what is asked of them.
      shared: what all plans have in common: ``epochs`` (of those that train more than a head), ``batch_size`` and
        ``seed``.
      execution: of all.
    """
    if not isinstance(init, Checkpoint):
        why = "a pretrained network to start from is needed: name a checkpoint (--init)"
        scratch = Plan(**shared, warmup_epochs=1, weight_decay=5e-4)
        left_out = {"linear head": why} | {NAMES[kind]: why for kind in OF_A_CHECKPOINT[1:]}
        return _at_rates(SCRATCH, scratch, SCRATCH_RATES), left_out
    made, left_out = [], {}
    try:
        head = linear_head(init, source, task, execution)
        made.append(Candidate(PROBE, f"{head} head", Probing(heads=(head,), seed=shared["seed"])))
    except InputError as error:
        left_out["linear head"] = str(error)
    longer = Plan(**shared, freeze_through=BODY)
    made += _at_rates(FROZEN, dataclasses.replace(longer, epochs=LONGER * longer.epochs), HEAD_RATES)
    optimizer = "sgd" if jax.tree.leaves(init.variables.get("batch_stats", {})) else "adamw"
    # after an epoch of warm-up, because the head is random
    tuned = Plan(**shared, optimizer=optimizer, warmup_epochs=1, weight_decay=5e-4)
    rates = BODY_RATES[optimizer]
    rates = LOW_RATES if optimizer == "adamw" and max(rates) > init.model.HIGHEST_RATE else rates
    inner = last_frozen(init)
    if inner is None:
        left_out[NAMES[PARTIAL]] = f"the body of {describe(init.model)[0]} is a single stage"
    else:
        made += _at_rates(PARTIAL, dataclasses.replace(tuned, freeze_through=inner), rates)
    try:
        adapter = dataclasses.replace(tuned, optimizer="adamw", adapter=_adapter(init))
        made += _at_rates(LORA, adapter, LORA_RATES)
    except InputError as error:
        left_out[NAMES[LORA]] = str(error)
    made += _at_rates(FULL, tuned, rates)
    return made, left_out


def _adapter(checkpoint: Checkpoint) -> str:
    """LoRA in every layer of the body that takes it. Raises InputError if none does."""
    example = batch_of(checkpoint.card.preprocessing.spec())
    layers = layers_of(checkpoint.model, checkpoint.variables, example)
    named = patterns_that_fit(layers, checkpoint.model.stage_names[-1])
    return f"lora:{RANK}" + (f":{','.join(named)}" if named else "")


def _at_rates(kind: str, plan: Plan, rates: Sequence[float]) -> list[Candidate]:
    named = [(rate, f"{NAMES[kind]} at {rate:g}" if len(rates) > 1 else NAMES[kind]) for rate in rates]
    return [Candidate(kind, name, dataclasses.replace(plan, learning_rate=rate)) for rate, name in named]


def linear_head(checkpoint: Checkpoint, source: Source, task: Task, execution: Execution) -> str:
    """The head to fit to frozen features: logistic for classes, ridge for numbers.

    Raises:
      InputError: if there is none for the task, or none can be put into the checkpoint.
    """
    if task.of_place() is not None:
        raise InputError(f"a fitted head is of whole examples, not for {task.name}")
    able = Probing().heads_for(task)
    check_head(checkpoint, source, execution)
    return "logistic" if "logistic" in able else "ridge"


def last_frozen(parent: Checkpoint) -> str | None:
    """The stage through which to freeze so that the last third of the body is trained; None in a body of one stage."""
    names, params = parent.model.stage_names, parent.variables["params"]
    body = [name for name in names[:-1] if params.get(name)]  # others, such as pooling, have nothing to train
    first = body[-max(1, len(body) // 3)] if len(body) > 1 else names[0]
    return names[names.index(first) - 1] if first != names[0] else None


def score_method(
    init: Init,
    source: Source,
    method: Method,
    splitter: str | Splitting | object = "auto",
    *,
    folds: int = 5,
    task: Task | None = None,
    execution: Execution = Execution(),  # noqa: B008
) -> Result:
    """What cross-validation says of a method.

    Of a head on frozen features ``plan["penalty"]`` is the one that all folds together choose; the score is that of the
    penalties that the inner folds of each fold chose.

    Args:
      init: a `Checkpoint`, or for a plan also a model, to train from scratch.
      source: labelled examples.
      method: a plan, or a `Probing` with one head that can be put into the checkpoint: ridge, logistic or svm.
      splitter: as of `cross_validate`, and so `folds` and `task`.
      folds: for a splitter by name.
      task: what is asked.
      execution: of all.

    Raises:
      InputError: if method, network and examples do not go together, or a leak is found.
    """
    if isinstance(method, Plan):
        return cross_validate(init, source, method, task=task, splitter=splitter, folds=folds, execution=execution)
    (head,) = method.heads
    found = probe_checkpoint(init, source, splitter, method, folds=folds, task=task, execution=execution)
    result = found.result(head)
    return dataclasses.replace(result, plan={**result.plan, "penalty": found.heads[head].best})


def fit_method(
    init: Init,
    source: Source,
    method: Method,
    told: Mapping[str, object],
    *,
    task: Task | None = None,
    execution: Execution = Execution(),  # noqa: B008
) -> Checkpoint:
    """The network that a method makes of all examples; its head is a fresh one, as in the folds.

    Args:
      init, source, method: as of `score_method`.
      told: the plan of the method's result, which knows a penalty.
      task: what is asked.
      execution: of all.
    """
    if isinstance(method, Plan):
        return finetune(init, source, method, task=task, head="fresh", execution=execution)
    (head,) = method.heads
    return with_head(
        init,
        source,
        head=head,
        penalty=told["penalty"],
        standardise=method.standardise,
        task=task,
        execution=execution,
    )
