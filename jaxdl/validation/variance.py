"""How much of a score's variation is due to the split, to the seed and to the hyperparameters."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.source import Source, arrange_columns, check_labelled
from jaxdl.errors import InputError, check_choice
from jaxdl.models import describe
from jaxdl.training.plan import Plan
from jaxdl.training.resume import RunFolder
from jaxdl.training.setup import Init
from jaxdl.training.transfer import describe_run
from jaxdl.validation.components import Component, repeats, variance_components
from jaxdl.validation.leakage import check_leaks
from jaxdl.validation.leakage.checks import check_allowed
from jaxdl.validation.saving import Saved
from jaxdl.validation.search.configurations import Configuration, configure, group, model_of
from jaxdl.validation.search.evaluate import OUTER, Evaluation
from jaxdl.validation.search.space import make_space, propose
from jaxdl.validation.splits import Split, Splitting, split_source
from jaxdl.validation.strategy import STRATEGIES
from jaxdl.weights.checkpoint import Checkpoint, environment

VARIANCE = "variance.json"
FACTORS = (0.5, 1.0, 2.0)  # of the learning rate, where no configurations are given


@dataclasses.dataclass(frozen=True, eq=False)
class Variance(Saved):
    """Of `variance`.

    Attributes:
      metric: that is scored.
      mean: of all scores.
      components: sources of the variance of one training's score; see `components.Component`.
      repeats: what to repeat to narrow the mean score of one plan; see `components.repeats`.
      scores: of every training, ``[configurations, splits, seeds]``.
      configurations: the values of each.
      seeds: of each repetition.
      split: the manifest of the splits.
      plan: as given, as plain values.
      data: ``{"name", "examples", "class_names"}``.
      model: ``{"name", "arguments"}``.
      environment: versions and devices.
      seconds: of the whole call.
    """

    metric: str
    mean: float
    components: Sequence[Component]
    repeats: Sequence[Mapping[str, Any]]
    scores: np.ndarray
    configurations: Sequence[Mapping[str, Any]]
    seeds: Sequence[int]
    split: Mapping[str, Any]
    plan: Mapping[str, Any]
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        held = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = [one.as_dict() for one in self.components]
        return held | {"components": plain, "scores": np.asarray(self.scores).tolist(), "seeds": list(self.seeds)}

    def write_to(self, folder: Path) -> None:
        """``variance.json``, into a folder that is there."""
        (folder / VARIANCE).write_text(json.dumps(self.as_dict(), indent=1) + "\n")


def load_variance(path: str | Path) -> Variance:
    """What `Variance.save` wrote.

    Raises:
      InputError: if it is not there or damaged.
    """
    file = Path(path).expanduser() / VARIANCE
    if not file.is_file():
        raise InputError(f"'{path}' is not a result of variance: it has no {VARIANCE}")
    try:
        held = json.loads(file.read_text())
        held["components"] = [Component(**one) for one in held["components"]]
        held["scores"] = np.array(held["scores"], np.float64)
        return Variance(**held)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{file}' is damaged ({type(error).__name__}: {error})") from error


def variance(
    init: Init,
    source: Source,
    plan: Plan,
    *,
    splits: int = 10,
    seeds: int = 3,
    configurations: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    splitter: str | Any = "auto",
    test_fraction: float = 0.2,
    fold_strategy: str = "auto",
    memory: int | None = None,
    image_size: int | None = None,
    on_steps: Callable[[int], None] | None = None,
    streaming: bool | None = None,
    workers: int = 2,
    work: str | Path | RunFolder | None = None,
    allow: Iterable[str] = (),
) -> Variance:
    """Trains every configuration on every split with every seed, and divides the variance of the scores.

    As Bouthillier et al. (2021, "Accounting for variance in machine learning benchmarks"): a comparison that varies one
    source alone is blind to the others. Splits are repeated divisions of the same examples, so that the part of the
    data is how much the division matters; another data set would vary more. (The interval of `cross_validate` is about
    that.) All trainings that differ in numbers alone run in one program, as in `search`.

    Args:
      init: a `Checkpoint`, or a model from `create` to train from scratch.
      source: labelled examples.
      plan: how to train.
      splits: number of divisions into training and test part.
      seeds: trainings a split, from the plan's seed on; a seed is that of initial weights, order and dropout.
      configurations: values that take the place of the plan's, for each configuration: ``{"learning_rate": 1e-3}``; or
        one dict with a list for each name, of which all combinations are taken. By default half, once and twice the
        learning rate; ``[{}]`` is the plan alone. Names as in `search`.
      splitter: ``auto`` draws a test part anew each time (by class, or whole groups where there are groups); else see
        `cross_validate`, with `splits` folds.
      test_fraction: share of the test part, for ``auto``.
      fold_strategy: ``loop``, ``vmap``, ``shard`` or ``auto``: see `cross_validate`.
      memory: bytes that trainings side by side may take; by default a quarter of the device's, or 4 GiB.
      image_size: see `training.setup.choose_preprocessing`.
      on_steps: told how many steps were just taken.
      streaming: see `training.prepare`, as `workers`.
      workers: processes that decode what is streamed.
      work: folder where the state is kept; the same call goes on from there.
      allow: leaks to go on with, see `cross_validate`.

    Raises:
      InputError: if data, plan and configurations do not go together, a training's numbers stop being finite, or there
        are too few of all to tell variances apart.
      Interrupted: see `training.resume.RunFolder`.
    """
    begin = time.perf_counter()
    check_labelled(source, purpose="variance")
    check_choice("fold strategy", fold_strategy, STRATEGIES)
    allow = check_allowed(allow)
    for name, value in (("splits", splits), ("seeds", seeds)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; expected a whole number of at least 1")
    if isinstance(init, Checkpoint):
        source = arrange_columns(source, init.card.columns)
    made = configure(_values(configurations, init, plan), init, plan, source, image_size)
    if splits < 2 or seeds * len(made) < 2:
        raise InputError(
            f"there are {splits} splits, {seeds} seeds and {len(made)} configurations; expected at least 2 splits, and "
            "2 seeds or 2 configurations"
        )
    split = _divide(source, splitter, splits, test_fraction, plan.seed)
    work = RunFolder(work) if isinstance(work, str | Path) else work
    if work:
        settings = {"call": "variance", "image_size": image_size, **describe_run(init, source, plan)}
        asked = {"seeds": seeds, "configurations": [one.as_dict()["values"] for one in made], "split": split.sha256}
        asked |= {"fold_strategy": fold_strategy, "memory": memory}
        work.claim(settings | asked | ({"allow": list(allow)} if allow else {}), environment())
    check_leaks(init, source, split, allow=allow)
    repetitions = range(plan.seed, plan.seed + seeds)
    evaluation = Evaluation(
        source,
        {OUTER: split},
        group(made, source),
        repetitions,
        fold_strategy,
        memory,
        image_size,
        streaming,
        workers,
        work,
        on_steps,
    )
    table = evaluation.run([(one.number, (OUTER, fold)) for one in made for fold in range(len(split))], "variance")
    metric = evaluation.metric
    scores = np.array(
        [
            [[table[one.number, (OUTER, fold), seed][metric] for seed in repetitions] for fold in range(len(split))]
            for one in made
        ]
    )
    _check_finite(scores, made)
    components = variance_components(scores, plan.seed)
    name, arguments = describe(model_of(init))
    return Variance(
        metric=metric,
        mean=float(scores.mean()),
        components=components,
        repeats=repeats({one.name: one.variance for one in components}, len(split), seeds),
        scores=scores,
        configurations=[one.as_dict()["values"] for one in made],
        seeds=list(repetitions),
        split=split.as_dict(),
        plan=plan.as_dict(),
        data={"name": source.name, "examples": len(source), "class_names": list(source.class_names)},
        model={"name": name, "arguments": arguments},
        environment=environment(),
        seconds=time.perf_counter() - begin,
    )


def _values(given: Any, init: Init, plan: Plan) -> list[Mapping[str, Any]]:
    """What each configuration puts in place of the plan's."""
    if given is None:
        return [{"learning_rate": factor * plan.learning_rate} for factor in FACTORS]
    if isinstance(given, Mapping):
        return propose(make_space(given, model_of(init)), "grid", None, plan.seed)
    if not isinstance(given, Sequence) or not given or not all(isinstance(one, Mapping) for one in given):
        raise InputError(
            f"configurations is {str(given)[:200]}; expected dicts such as {{'learning_rate': 1e-3}} in a "
            "list, or a dict of lists"
        )
    for one in given:
        if one:
            make_space({name: [value] for name, value in one.items()}, model_of(init))  # checks the names
    return list(given)


def _divide(source: Source, splitter: str | Any, splits: int, test_fraction: float, seed: int) -> Split:
    if not (isinstance(splitter, str) and splitter == "auto"):
        return split_source(source, splitter, splits, seed)
    if source.groups is None:
        return split_source(source, "monte-carlo", splits, seed, Splitting(test_fraction=test_fraction))
    from sklearn.model_selection import GroupShuffleSplit

    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction is {test_fraction!r}; expected a share between 0 and 1")
    return split_source(source, GroupShuffleSplit(splits, test_size=test_fraction, random_state=seed), splits, seed)


def _check_finite(scores: np.ndarray, made: Sequence[Configuration]) -> None:
    bad = ~np.isfinite(scores)
    if bad.any():
        worst = int(bad.sum((1, 2)).argmax())
        raise InputError(
            f"{int(bad.sum())} of {scores.size} trainings have no finite score, most of them with "
            f"{dict(made[worst].as_dict()['values'])}; leave out configurations that diverge, such as a learning rate "
            "that is too high"
        )
