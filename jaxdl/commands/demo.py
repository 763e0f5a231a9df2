"""``jaxdl demo``."""

import time
from pathlib import Path
from typing import Annotated

import tyro

from jaxdl.cli_options import AllowOption, Debug, option
from jaxdl.commands.console import console, errors
from jaxdl.demo import Demo, DigitsTour, PhotoTour, photo_tour, tell
from jaxdl.errors import InputError
from jaxdl.report.table import baseline_rows, print_table, results_table
from jaxdl.tasks.metric import percent


def demo_command(
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("jaxdl-demo"),
    photos: Annotated[Path | None, option("FOLDER")] = None,
    init: Annotated[Path | None, option("CKPT|hf:OWNER/NAME")] = None,
    allow: AllowOption = (),
    debug: Debug = False,
) -> None:
    """Take the tour: transfer learning on embedded digits, or on your own photographs.

    Args:
      out: folder for report.html, the results and the checkpoints; new, or of an earlier demo.
      photos: folder of class folders of photographs, with train/ and val/ or without, in place of the digits.
      init: checkpoint that was pretrained on images, from which the tour of --photos starts, or published weights.
      allow: leaks to accept: labels, groups, times, duplicates, near-duplicates, frames, parent.
      debug: show the traceback of an error.
    """
    begin = time.perf_counter()
    with errors.status("starting") as status:
        tour = _choose(photos, init, out, allow)
        say = lambda text: status.update(f"{time.perf_counter() - begin:3.0f} s  {text}")  # noqa: E731
        found = tell(out, tour, allow=allow, say=say)
    console.print(
        f"{found.material.lead} with {len(found.labelled)} labelled images; {tour.folds}-fold cross-validation. "
        f"Unseen: refitted on all of these, scored on {len(found.unseen)} images that no fold has seen.",
        highlight=False,
    )
    print_table(console, results_table(found.results, found.truth), baseline_rows(found.results))
    for line in _conclusions(found):
        console.print(line, highlight=False)
    for method, why in found.material.left_out.items():
        console.print(f"Left out, {method}: {why}.", soft_wrap=True)
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.seconds.items())
    console.print(f"Time: {parts}; {time.perf_counter() - begin:.1f} s in all.")
    console.print(f"Pictures: {out / 'report.html'}", soft_wrap=True)


def _conclusions(found: Demo) -> list[str]:
    """What there is to learn, in sentences."""
    best, (low, high) = found.best, found.reach[found.best]
    said = [
        f"Best: {best}. Cross-validation said {percent(found.results[best].mean)}; on unseen images it is right for "
        f"{percent(found.truth[best])} (95 % interval {percent(low)} to {percent(high)}). (The best of several is "
        "chosen partly by luck, so its own mean leans upwards.)"
    ]
    if best in found.gain:
        gain, low, high = (f"{100 * value:+.1f}" for value in found.gain[best])
        helps = "What it knew is worth" if found.gain[best][1] > 0 else "Not shown to help: what it knew is worth"
        said.append(f"{helps} {gain} points against training from scratch (95 % interval {low} to {high}).")
    return said


def _choose(photos: Path | None, init: Path | None, out: Path, allow: tuple[str, ...]) -> DigitsTour | PhotoTour:
    if photos is None and init is None:
        return DigitsTour()
    if init is None:
        raise InputError(
            f"--photos is '{photos}', but there is no --init: name a checkpoint to start from too (jaxdl convert makes "
            "one of published weights), or leave both out for the tour on digits"
        )
    if photos is None:
        raise InputError(
            f"--init is '{init}', but there is no --photos: name a folder of class folders of photographs too, or "
            "leave both out for the tour on digits"
        )
    if Path(init).expanduser().absolute().is_relative_to(Path(out).expanduser().absolute()):
        raise InputError(f"the checkpoint '{init}' lies in '{out}', which a demo empties; name another --out")
    return photo_tour(photos, init, allow=allow)
