"""``jaxdl gather``."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxdl.cli_options import Debug, Flag, NewRun
from jaxdl.commands.console import console, errors
from jaxdl.commands.crossval import tell_result
from jaxdl.errors import InputError
from jaxdl.report.run import FOLDS, load_run, read_told
from jaxdl.report.run_page import PAGE, write_run_report
from jaxdl.training.resume import RUN
from jaxdl.validation.gather import gather
from jaxdl.validation.parts import Part, load_part
from jaxdl.validation.splits import SPLIT
from jaxdl.weights.buckets import place_of
from jaxdl.weights.files import check_free, copy_folder, write_bytes, write_text, written_whole


def gather_command(
    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN ...", help_behavior_hint="")
    ],
    /,
    *,
    out: NewRun,
    report: Flag = True,
    debug: Debug = False,
) -> None:
    """Join the parts of a cross-validation that machines made with --folds-of.

    Args:
      runs: folders of all parts.
      out: new folder for the result, which is that of one machine.
      report: do not write the page report.html; jaxdl report RUN writes it later.
      debug: show the traceback of an error.
    """
    out = check_free(out)
    if not runs:
        raise InputError("there are no folders to gather; expected those that cross-validate made with --folds-of")
    parts = {str(run): load_part(run) for run in runs}
    if len(parts) < len(runs):
        raise InputError("a folder is named twice; expected different parts")
    result = gather(parts)
    with written_whole(out) as made:
        result.write_to(made)
        for name, part in parts.items():
            _take_networks(Path(name), part, made)
        write_bytes(made / SPLIT, (place_of(runs[0]) / SPLIT).read_bytes())
        write_text(made / RUN, json.dumps(_told(parts, out), indent=1) + "\n")
    page = out / PAGE if report else None
    run = load_run(out)
    if report:
        with errors.status(f"drawing {PAGE}"):
            write_run_report(out, run.source)
    found = dataclasses.replace(run.result, models=list(run.networks.values()) or None)
    tell_result(found, run.parent, run.source, page)
    console.print(f"results{'' if page is None else f' and {PAGE}'} in {out}", soft_wrap=True)


def _take_networks(run: Path, part: Part, made: Path) -> None:
    """Copies the networks of a part's folds, where they were kept."""
    if not part.settings.get("keep_models"):
        return
    for fold in part.folds:
        network = place_of(run) / FOLDS / str(fold)
        if not network.is_dir():
            raise InputError(
                f"'{network}' is missing: part {part.share} kept the networks of its folds; restore it from a copy, or "
                "run the part again with --restart"
            )
        copy_folder(network, made / FOLDS / str(fold))


def _told(parts: Mapping[str, Part], out: Path) -> dict[str, Any]:
    """The ``run.json`` of the whole: that of the first part, as the command without ``--folds-of`` had written it."""
    name, part = next(iter(parts.items()))
    told = dict(read_told(place_of(name)))
    if command := told.get("command"):
        told["command"] = _whole_command(command, out)
    return told | {"settings": part.settings, "environment": part.environment}


def _whole_command(command: Sequence[str], out: Path) -> list[str]:
    """A part's command line as that of the whole."""
    words, given = [], iter(command)
    for word in given:
        name, equals, _ = word.partition("=")
        if name.replace("_", "-") not in ("--folds-of", "--out"):
            words.append(word)
        elif not equals:
            next(given, None)  # its value
    return [*words, "--out", str(out)]
