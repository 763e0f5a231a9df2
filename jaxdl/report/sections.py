"""The sections of a page that depend on the task: it names those that it wants in `Task.SECTIONS`."""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from jaxdl.data.preprocessing import TextPreprocessing
from jaxdl.errors import InputError
from jaxdl.report.coverage import INTERVALS, SETS, show_intervals, show_sets
from jaxdl.report.examples import EXAMPLES, list_examples
from jaxdl.report.labels import TITLE as LABELS
from jaxdl.report.labels import show_labels
from jaxdl.report.markup import Section, escaped, note
from jaxdl.report.pixels import show_overlays, show_pixel_classes
from jaxdl.report.predictions import first_places
from jaxdl.report.residuals import show_residuals
from jaxdl.report.saliency import show_explained
from jaxdl.report.shown import Shown
from jaxdl.report.tags import TITLE as KINDS
from jaxdl.report.tags import WRONG, show_kinds, show_wrong_tags
from jaxdl.report.targets import TITLE as TARGETS
from jaxdl.report.targets import show_targets
from jaxdl.report.trust import (
    CONFIDENCE,
    show_classes,
    show_confusion,
    show_doubtful,
    show_reliability,
    show_wrong,
)
from jaxdl.report.units import loss_word
from jaxdl.report.words import TITLE as WORDS
from jaxdl.report.words import show_words
from jaxdl.tasks.metric import Mean
from jaxdl.validation.result import DECISION_VALUES


def confusion(shown: Shown) -> list[Section]:
    """Which classes are taken for which, and how well each is found."""
    made = [section("Which classes are confused", lambda: show_confusion(shown.method, shown.predictions))]
    if shown.run:
        made.append(section("Class by class", lambda: show_classes(shown.predictions)))
    return made


def reliability(shown: Shown) -> list[Section]:
    """Whether probabilities are as large as predictions are often right."""
    if not shown.run:
        return []
    return [section("Can the probabilities be believed?", lambda: show_reliability(shown.predictions))]


def sets(shown: Shown) -> list[Section]:
    """The classes that may be true of each example; a page that compares several methods has none of them."""
    if not shown.run:
        return []
    return [section(SETS, lambda: show_sets(shown.predictions, shown.source))]


def intervals(shown: Shown) -> list[Section]:
    """The numbers that may be true of each example; as `sets`."""
    if not shown.run:
        return []
    return [section(INTERVALS, lambda: show_intervals(shown.predictions, shown.source))]


def wrong(shown: Shown) -> list[Section]:
    """The examples that are predicted worst: the most confidently wrong, or those with the largest loss."""
    result = shown.predictions
    if CONFIDENCE in result.record or result.outputs == DECISION_VALUES:
        made = [section("Most confidently wrong", lambda: show_wrong(shown.method, result, shown.source))]
        if shown.run:
            made.append(section("Least certain", lambda: show_doubtful(result, shown.source)))
        return made
    if "residuals" in result.asked.SECTIONS:  # which lists the largest errors, with their sign
        return []
    return [section("Largest losses", lambda: _show_losses(shown))]


def residuals(shown: Shown) -> list[Section]:
    """Predicted against true numbers."""
    return [section("Predicted and true", lambda: show_residuals(shown.predictions))]


def labels(shown: Shown) -> list[Section]:
    """Each label of several, with how sure its scores are."""
    return [section(LABELS, lambda: show_labels(shown.predictions))]


def targets(shown: Shown) -> list[Section]:
    """Each number of several, with how sure its scores are."""
    return [section(TARGETS, lambda: show_targets(shown.predictions))]


def saliency(shown: Shown) -> list[Section]:
    """Where the networks looked, or which words counted; a page that compares several methods has none of them."""
    run = shown.run
    if not run:
        return []
    networks = list(run.networks.values())
    if networks and isinstance(networks[0].card.preprocessing, TextPreprocessing):
        return [section(WORDS, lambda: show_words(run))]
    return [section("Where it looked", lambda: show_explained(run))]


def pixels(shown: Shown) -> list[Section]:
    """Each class of a segmentation, with how sure its scores are."""
    return [section("Class by class", lambda: show_pixel_classes(shown.predictions))]


def overlays(shown: Shown) -> list[Section]:
    """Images with the true and the predicted classes of their pixels."""
    build = lambda: show_overlays(shown.method, shown.predictions, shown.source)  # noqa: E731
    return [section("Predictions on images", build)] if shown.run else []


def kinds(shown: Shown) -> list[Section]:
    """Each kind of entity, or of words, with how sure its scores are."""
    return [section(KINDS, lambda: show_kinds(shown.predictions))]


def tags(shown: Shown) -> list[Section]:
    """Sentences with the words that are tagged wrong."""
    build = lambda: show_wrong_tags(shown.method, shown.predictions, shown.source)  # noqa: E731
    return [section(WRONG, build)] if shown.run else []


SECTIONS: dict[str, Callable[[Shown], Sequence[Section]]] = {
    "confusion": confusion,
    "reliability": reliability,
    "sets": sets,
    "intervals": intervals,
    "wrong": wrong,
    "residuals": residuals,
    "labels": labels,
    "targets": targets,
    "pixels": pixels,
    "overlays": overlays,
    "kinds": kinds,
    "tags": tags,
    "saliency": saliency,
}
OF_NETWORKS = ("saliency",)  # what can be shown of a checkpoint, too, which has no held-out predictions


def task_sections(shown: Shown) -> list[Section]:
    """The sections that the task of a page names, in its order; one that is not known says so."""
    names = shown.task.SECTIONS if shown.result else [n for n in shown.task.SECTIONS if n in OF_NETWORKS]
    made: list[Section] = []
    for name in names:
        try:
            if name not in SECTIONS:
                raise InputError(f"There is no section '{name}'; those that a task may name are {', '.join(SECTIONS)}.")
            made += SECTIONS[name](shown)
        except InputError as error:
            made.append(Section(name.capitalize(), note(str(error))))
    return made


def section(title: str, build: Callable[[], Section]) -> Section:
    """A section; one whose ingredients are missing says which."""
    try:
        return build()
    except InputError as error:
        return Section(title, note(str(error)))


def _show_losses(shown: Shown) -> Section:
    """For any task: the held-out examples with the largest loss, as the task writes targets and predictions."""
    result, task = shown.predictions, shown.task
    loss = task.metrics[task.LOSS]
    if not isinstance(loss, Mean):
        raise InputError(f"The loss of the task {task.name} is not known for single examples.")
    losses, held = loss.values(result.record), result.out_of_fold
    places = first_places(held, -losses, np.isfinite(losses), EXAMPLES)
    if not len(places):
        raise InputError("The loss of no example is finite.")
    kept, targets = (jax.tree.map(lambda array: array[places], tree) for tree in (held.kept, held.target))
    columns, word = task.shown_examples(kept, targets, shown.source), loss_word(loss)
    rows = [
        {
            "index": int(held.index[place]),
            **{name: values[i] for name, values in columns.items()},
            word: f"{losses[place]:.3g}",
        }
        for i, place in enumerate(places)
    ]

    def caption(row: Mapping[str, object]) -> tuple[str, str]:
        return ", ".join(f"{name} {row[name]}" for name in columns), f"({word} {row[word]})"

    said = f"Held-out examples for which the predictions of “{escaped(shown.method)}” have the largest loss."
    return Section("Largest losses", f"<p>{said}</p>{list_examples(rows, caption, shown.source, 'Largest losses')}")
