"""The page of one run: what was run, the answer, how far to trust it, and what happened inside the network."""

import shlex
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.models import describe
from jaxdl.report.answer import show_answer, show_curves, show_facts, show_scores
from jaxdl.report.diagnosis import why_ended
from jaxdl.report.kept import held_out_scores, kept_of
from jaxdl.report.markup import (
    GENERATOR,
    Section,
    check_place,
    document,
    escaped,
    in_scroll,
    make_table,
    note,
)
from jaxdl.report.network import dead_units, show_activity, show_gradients, show_stages, stage_activities
from jaxdl.report.run import Run, load_run, read_told, sentence
from jaxdl.report.search import show_search
from jaxdl.report.sections import section, task_sections
from jaxdl.report.shown import Shown
from jaxdl.report.study import read_study
from jaxdl.report.table import (
    baseline_rows,
    brief,
    describe_environment,
    flat_plan,
    how_made,
    left_out,
    plain,
    results_table,
    uneven,
)
from jaxdl.report.uncertainty import HOW_SURE, show_uncertainty
from jaxdl.report.units import LOSS, curve_metrics, find_metric, measure
from jaxdl.tasks import Metric
from jaxdl.training.progress import without_prefix
from jaxdl.validation.probes.result import PROBED
from jaxdl.validation.result import Result
from jaxdl.validation.search.result import SEARCH
from jaxdl.weights.buckets import place_of
from jaxdl.weights.card import CARD
from jaxdl.weights.checkpoint import OwnModels
from jaxdl.weights.files import read_json, write_text

PAGE = "report.html"
LISTED = 20  # files that were left out
TITLES = {
    "cross-validate": "Cross-validation on",
    "search": "Search on",
    "pretrain": "Pretraining on",
    "finetune": "Fine-tuning on",
}


def write_run_report(
    run: str | Path,
    source: Source | None = None,
    out: str | Path | None = None,
    *,
    models: OwnModels = None,
) -> Path:
    """Writes one HTML file about a run that needs nothing else: no scripts, no network.

    Where the run did not keep something, or it is not there any more, a sentence says so.

    Args:
      run: folder of a cross-validation, search, learning curve, variance, probe or recommendation, or of a checkpoint
        that pretraining or fine-tuning made.
      source: the examples that the run was made on; by default those that its ``run.json`` names, if they are there.
      out: the file; by default ``report.html`` in the folder of the run. A report that is there is replaced at once or
        not at all, another file is left as it is.
      models: of your own, see `weights.checkpoint.restore`.

    Returns:
      The absolute path of the file.

    Raises:
      InputError: if there is no finished run, `source` is not what it was made on, or the file cannot be written.
    """
    folder = place_of(run).absolute()
    study = read_study(folder, source)
    found = load_run(folder, source, models) if study is None else None
    path = check_place(folder / PAGE if out is None else out)
    if out is not None and path.exists() and GENERATOR not in path.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"'{path}' is there already and is no report; it was left as it is. Name another --out")
    if study is not None:
        header = f"<p>{escaped(study.lead)}</p>{_command(read_told(folder))}"
        write_text(path, document(study.title, header, study.sections, contents=True))
        return path
    name = found.result.data["name"] if found.result else found.networks[0].card.data or "examples"
    title = f"{TITLES.get(found.kind, 'Training on')} {name}"
    write_text(path, document(title, _header(found), _sections(found), contents=True))
    return path


def _header(run: Run) -> str:
    model, init = _model_name(run), run.told.get("init") or (run.parent.path if run.parent else None)
    start = f"starting from {init}" if init else run.missing.get("parent", "")
    begun = start if start.startswith("starting") else start[:1].lower() + start[1:]
    return f"<p>{escaped(sentence(f'{model}, {begun}'))}</p>{_command(run.told)}"


def _command(told: Mapping[str, Any]) -> str:
    command = told.get("command")
    if not command:
        return note("The run says no command line of its own; the last section says how it was made.")
    words = " ".join(f"<span>{escaped(shlex.quote(str(word)))}</span>" for word in command)  # broken between words
    line = f"<pre><code>{words}</code></pre>"
    again = "" if told.get("kind") == PROBED else ", or --restart"
    return f'<p class="command">To run it again (with another --out{again}):</p>{line}'


def _model_name(run: Run) -> str:
    return run.result.model["name"] if run.result else describe(run.networks[0].model)[0]


def _method(result: Result) -> str:
    """What was cross-validated, as the page calls it."""
    if result.fold_strategy["name"] == PROBED:
        return f"{result.plan['head']} on frozen features"
    return "from scratch" if result.init["kind"] == "scratch" else "fine-tuning"


def _sections(run: Run) -> list[Section]:
    name = _method(run.result) if run.result else _model_name(run)
    shown = Shown(run.task, name, run.result or run.held_out, run.source if run.result else run.fresh, run)
    looked = cache(partial(stage_activities, run))  # at the networks, once for all sections

    def dead() -> Mapping[str, float] | None:
        try:
            return dead_units(looked()[0])
        except InputError:  # which the section of the activations tells
            return None

    first = _of_result(run, name, dead) if run.result else [("The answer", lambda: _show_last(run))]
    if run.held_out:
        first.append((HOW_SURE, lambda: show_uncertainty(run.held_out)))
    first.append(("Learning curves", lambda: _show_curves(run)))
    last: list[tuple[str, Callable[[], Section]]] = [
        ("Stages", lambda: show_stages(run)),
        ("Activations", lambda: show_activity(run, *looked())),
        ("Gradients", lambda: show_gradients(run, dead())),
        ("How this was made", lambda: show_facts(_facts(run))),
    ]
    return [*(section(*each) for each in first), *task_sections(shown), *(section(*each) for each in last)]


def _of_result(
    run: Run, name: str, dead: Callable[[], Mapping[str, float] | None]
) -> list[tuple[str, Callable[[], Section]]]:
    """Titles and makers of what every cross-validation shows."""
    results = {name: run.result}
    searched = [("The search", lambda: show_search(run.path))] if (run.path / SEARCH).is_file() else []
    return [
        *searched,
        ("The answer", lambda: show_answer(results_table(results), results)),
        (HOW_SURE, lambda: show_uncertainty(run.result, dead())),
        ("Each fold", lambda: show_scores(results, {})),
    ]


def _measured(run: Run) -> tuple[Mapping[str, Metric], Any]:
    score = run.result.metric if run.result else run.task.metric
    return curve_metrics(run.task, score), run.plan.get("early_stopping")


def _show_curves(run: Run) -> Section:
    chosen = ""
    if not run.result and run.told.get("best_epoch") is not None:
        chosen = "The held-out curves chose the epoch of the folder best, and nothing else."
    ended = why_ended(run.history, run.plan)
    return show_curves({_model_name(run): run.history}, *_measured(run), ended=ended, chosen=chosen)


def _show_last(run: Run) -> Section:
    """What the training measured in the epoch that the checkpoint is of, with other models beside it."""
    if not run.history:
        raise InputError("The checkpoint keeps no history of its training.")
    kept = kept_of(run.history, run.told.get("best_epoch"), run.plan.get("early_stopping") is not None)
    measured = {"training part": without_prefix(kept.row, "train_"), "held-out part": held_out_scores(kept.row)}
    if kept.best is not None and kept.best is not kept.row:
        measured[f"held-out part, epoch {kept.best['epoch']}, in best"] = held_out_scores(kept.best)
    names = dict.fromkeys(name for values in measured.values() for name in values)
    names = sorted(names, key=lambda name: name != LOSS.name)  # the loss first, as in the curves
    said = [f"After epoch {kept.row['epoch']}, step {kept.row.get('step', '–')}.", kept.said]
    if any(measured.values()) and not measured["held-out part"]:
        said.append("Nothing was held out: this says how well the training examples were learned, no more.")
    else:
        said.append("One held-out part is one sample: cross-validate says how much such a number varies.")
    if run.held_out:
        beside = {"": run.held_out}
        for row in baseline_rows(beside):
            measured[row["method"]] = row["means"] | {LOSS.name: row["loss"]}
        said += [one for one in (uneven(beside), *left_out(beside)) if one]
    lines = [
        [escaped(part), *(measure(find_metric(name, run.task), values.get(name)) for name in names)]
        for part, values in measured.items()
        if values
    ]
    table = make_table(["", *map(escaped, names)], lines, "numbers")
    return Section("The answer", in_scroll(table, "The answer") + f"<p>{escaped(' '.join(said))}</p>")


def _facts(run: Run) -> dict[str, str]:
    """Topics and texts of what is needed to make the run again."""
    if run.result:
        facts = how_made({"": run.result})
        if (spec := run.told.get("data")) and spec != run.result.data["name"]:
            facts["data"] += f"; given as {spec}"
    else:
        facts = _checkpoint_facts(run)
    if broken := run.told.get("broken"):
        listed = [f"{name}: {reason}" for name, reason in broken[:LISTED]]
        rest = [f"and {len(broken) - LISTED} more"] if len(broken) > LISTED else []
        facts["left out"] = "\n".join([f"{len(broken)} that cannot be read", *map(plain, listed), *rest])
    return facts


def _checkpoint_facts(run: Run) -> dict[str, str]:
    card = run.networks[0].card
    name, arguments = describe(run.networks[0].model)
    environment = read_json(run.path / CARD).get("environment") or {}  # which the card of a network does not have
    facts = {
        "data": f"{run.told.get('data') or card.data or 'unknown'}, {brief(run.task)}",
        "model": ", ".join([name, *(f"{key} {value}" for key, value in arguments.items())]),
        "start": run.parent.path if run.parent else run.missing.get("parent", ""),
        "plan": ", ".join(f"{key} {value}" for key, value in flat_plan(run.plan).items()),
        "split": f"training examples, sha256 {card.split}" if card.split else "",
        "versions": describe_environment(environment),
    }
    return {topic: plain(text) for topic, text in facts.items() if text}
