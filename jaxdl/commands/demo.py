"""``jaxdl demo``."""

import time
from pathlib import Path

from jaxdl.cli_options import Debug
from jaxdl.commands.console import console, errors
from jaxdl.demo import FOLDS, demo
from jaxdl.report.table import print_table, results_table
from jaxdl.tasks.metric import percent


def demo_command(*, out: Path = Path("jaxdl-demo"), debug: Debug = False) -> None:
    """Take the tour: transfer learning on embedded digits, in about a minute.

    Args:
      out: folder for report.html, the results and the checkpoints; new, or of an earlier demo.
      debug: show the traceback of an error.
    """
    begin = time.perf_counter()
    with errors.status("starting") as status:
        found = demo(out, say=lambda text: status.update(f"{time.perf_counter() - begin:3.0f} s  {text}"))
    console.print(
        f"Pretrained on the digits 0 to 4, transferred to 5 to 9 with {len(found.labelled)} labelled images; "
        f"{FOLDS}-fold cross-validation. Unseen is the truth: refitted on all of these, scored on {len(found.unseen)} "
        "images that no fold has seen."
    )
    print_table(console, results_table(found.results, found.truth))
    best, truth = found.results[found.best], found.truth[found.best]
    console.print(
        f"Best: {found.best}. Cross-validation said {percent(best.mean)}, the truth is {percent(truth)}. (The best of "
        "several is chosen partly by luck, so its own mean leans upwards.)"
    )
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.seconds.items())
    console.print(f"Time: {parts}; {time.perf_counter() - begin:.1f} s in all.")
    console.print(f"Pictures: {out / 'report.html'}", soft_wrap=True)
