"""Sections on held-out tags of words: entity by entity, and sentences with the words that are tagged wrong."""

from collections.abc import Sequence

import numpy as np

from jaxdl.data.source import Source
from jaxdl.data.tagged import NO_WORD
from jaxdl.errors import InputError
from jaxdl.report.diagrams import draw_intervals
from jaxdl.report.examples import short_name
from jaxdl.report.markup import Section, escaped, in_scroll, make_table, note
from jaxdl.report.predictions import first_places, most_confused
from jaxdl.report.units import measure, percent
from jaxdl.tasks.metric import SHARE, Metric
from jaxdl.tasks.token_classification import NO_TAG, aligned, of_kind
from jaxdl.validation.result import Result
from jaxdl.validation.statistics.intervals import interval

SENTENCES = 12  # that are shown
LONGEST = 80  # words of them
CONFUSED = 5  # pairs of tags that are named
F1 = Metric("F1", **SHARE)
TITLE, WRONG = "Kind by kind", "Sentences with the most words tagged wrong"
SCHEMES = {
    "none": "Each word counts by itself, and its kind is its tag.",
    "conll": "Entities are read as conlleval and seqeval read them: an I without a B before it begins one, too.",
}


def show_kinds(result: Result) -> Section:
    """Precision, recall and F1 of each kind of entity with its interval; which tags are confused, words unseen."""
    entities, record = result.asked.entities, result.record
    found, there, said = np.asarray(record["entities"], np.int64).sum(0)
    lines, drawn = [], []
    for place, name in enumerate(entities.kinds):
        metric = of_kind(place, name)
        score, ends = result.sample(metric).pooled_score, interval(result, metric=metric)
        lines.append(
            [
                escaped(name),
                *(f"{counts[place]:,}" for counts in (there, said, found)),
                _share(found[place], said[place]),
                _share(found[place], there[place]),
                measure(F1, score if np.isfinite(score) else None),
                "–" if ends is None else f"{measure(F1, ends.low)} to {measure(F1, ends.high)}",
            ]
        )
        if np.isfinite(score):
            drawn.append((name, score, ends and (ends.low, ends.high)))
    picture = draw_intervals("F1", "kind", drawn)
    heads = ["kind", "true", "predicted", "found", "precision", "recall", "F1", "95 % interval"]
    told = (
        f"{SCHEMES.get(entities.scheme, f'Entities are read of the tags in the scheme {entities.scheme}, strictly.')} "
        "One is found if its first word, its last word and its kind are right. The intervals are over sentences, or "
        "over groups such as documents where there are any, never over words: neighbouring words are no independent "
        "examples. – stands where nothing is of the kind or predicted to be."
    )
    table = in_scroll(make_table(heads, lines, "numbers"), TITLE)
    return Section(TITLE, f"{picture}{table}{_confused(result)}{_unseen(result)}{note(told)}")


def _share(part: int, whole: int) -> str:
    return measure(F1, part / whole if whole else None)


def _confused(result: Result) -> str:
    """The pairs of tags with the most words taken for the other, in a sentence."""
    names, targets = result.asked.names, result.out_of_fold.target
    said, known = aligned(result.out_of_fold.kept, targets), targets >= 0
    pairs = targets[known] * (len(names) + 1) + said[known] + 1
    counts = np.bincount(pairs, minlength=len(names) * (len(names) + 1)).reshape(len(names), -1)[:, 1:]
    words = np.bincount(targets[known], minlength=len(names))
    most = most_confused(counts, CONFUSED)
    if not most:
        return ""
    listed = "; ".join(
        f"{names[row]} for {names[column]} ({counts[row, column]:,} words, {percent(counts[row, column] / words[row])} "
        "of its own)"
        for row, column in most
    )
    return f"<p>{escaped(f'Most words are lost by taking {listed}.')}</p>"


def _unseen(result: Result) -> str:
    """How many words the networks did not see."""
    record = result.record
    lost, words = int((record["words"] - record["seen"]).sum()), int(record["words"].sum())
    if not lost:
        return ""
    said = (
        f"{lost:,} of {words:,} words got no tag: they lie beyond the number of tokens that the network reads, or have "
        "none. They count as wrong, and entities in them as missed."
    )
    return f"<p>{escaped(said)}</p>"


def show_wrong_tags(method: str, result: Result, source: Source | None) -> Section:
    """The sentences with the most wrong tags, each wrong word with what it is and what it was taken for."""
    if source is None or source.texts is None:
        raise InputError("The sentences are not available, so that no tags can be shown on them.")
    held, record = result.out_of_fold, result.record
    wrong = np.asarray(record["words"]) - np.asarray(record["right"])
    places = first_places(held, -wrong, wrong > 0, SENTENCES)
    if not len(places):
        return Section(WRONG, note("No word is tagged wrong."))
    said = aligned(held.kept, held.target)
    rows = []
    for place in places:
        index = int(held.index[place])
        name = str(index) if source.names is None else short_name(source.names[index])
        words = [str(word) for word in source[index]["x"]]
        marked = _marked(words, held.target[place], said[place], result.asked.names)
        rows.append([escaped(name), f"{wrong[place]} of {record['words'][place]}", marked])
    intro = (
        f"Held-out predictions of “{escaped(method)}”. A marked word is wrong; its true tag and the one that it "
        f"got, {NO_TAG} for none, stand behind it."
    )
    table = make_table(["sentence", "wrong", "words"], rows, "examples")
    return Section(WRONG, f"<p>{intro}</p>{in_scroll(table, WRONG)}")


def _marked(words: Sequence[str], targets: np.ndarray, said: np.ndarray, names: Sequence[str]) -> str:
    """The words as HTML, of a long sentence up to the last wrong one that has room."""
    parts = []
    for word, target, tag in list(zip(words, targets, said, strict=False))[:LONGEST]:
        if target == tag:
            parts.append(escaped(word))
            continue
        true, got = (names[i] if i >= 0 else NO_TAG if i == NO_WORD else "?" for i in (target, tag))
        parts.append(f"<mark>{escaped(word)}</mark> <small>({escaped(true)}, got {escaped(got)})</small>")
    rest = " …" if len(words) > LONGEST else ""
    return f'<span class="text" dir="auto">{" ".join(parts)}{rest}</span>'
