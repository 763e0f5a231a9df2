"""How a value of a metric is written: a property of the metric, whatever the task."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxdl.tasks import TASKS, Metric, Task
from jaxdl.tasks.metric import percent
from jaxdl.validation.result import Result

# what the learning curves call the loss of any task
LOSS = Metric("loss", higher_is_better=False, best=0.0, bounds=(0.0, float("inf")), scale="distance")
LOSS_WORDS = {"log_loss": "log loss"}  # by the name of the metric that is the loss; else "loss"


def find_metric(name: str, task: Task | None = None) -> Metric:
    """The metric of a name: the task's own or the user's, else that of any task that is registered.

    A name that nobody knows, such as that of a user's function in a result that was read from disk, is one whose values
    are plain numbers.
    """
    if name == LOSS.name:
        return LOSS if task is None else task.metrics[task.LOSS]
    for metrics in ({} if task is None else task.metrics, *(kind.METRICS for kind in TASKS.values())):
        if name in metrics:
            return metrics[name]
    return Metric(name)


def score_metric(result: Result) -> Metric:
    """The metric of which the mean of a result speaks."""
    return find_metric(result.metric, result.asked)


def shown_metrics(result: Result) -> dict[str, Metric]:
    """What tables of scores show of a result: its score, and the other metrics that its task shows."""
    names = dict.fromkeys((result.metric, *result.asked.SHOWN))
    return {name: find_metric(name, result.asked) for name in names}


def curve_metrics(task: Task, score: str) -> dict[str, Metric]:
    """What learning curves show, by the name in their rows: distances such as the loss first, then scores.

    A metric that is the loss is left out where the task shows it by its own name: training parts do not have it.
    """
    found = {name: find_metric(name, task) for name in (*task.SHOWN, score) if name != task.LOSS}
    if task.LOSS not in task.SHOWN:
        found = {LOSS.name: find_metric(LOSS.name, task), **found}
    return dict(sorted(found.items(), key=lambda pair: pair[1].higher_is_better))


def in_percent(metric: Metric | str) -> bool:
    """Whether values are shown in percent: those of shares from 0 to 1."""
    found = find_metric(metric) if isinstance(metric, str) else metric
    return found.scale == "share" and found.bounds == (0.0, 1.0)


def measure(metric: Metric | str, mean: float | None, std: float | None = None) -> str:
    """A value of `metric` with its spread: a percentage for shares such as accuracy, else a number; – for None."""
    if mean is None:
        return "–"
    if in_percent(metric):
        return percent(mean, std)
    return f"{mean:.3g}" if std is None else f"{mean:.3g} ± {std:.2g}"


def loss_word(metric: Metric) -> str:
    """What tables and curves call the metric that is the loss of a task."""
    return LOSS_WORDS.get(metric.name, LOSS.name)


def known_scores(folds: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The scores of a name in rows of folds, without those that are not defined."""
    return [row[name] for row in folds if row.get(name) is not None]
