"""``jaxdl ensemble``."""

from pathlib import Path
from typing import Annotated

import tyro

from jaxdl.cli_options import Debug, NewCheckpoint
from jaxdl.commands.console import console
from jaxdl.validation.ensemble import ensemble
from jaxdl.validation.ensemble_files import save_ensemble
from jaxdl.weights.files import check_free


def ensemble_command(
    members: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN|CKPT ...", help_behavior_hint="(required)")
    ],
    *,
    out: NewCheckpoint,
    debug: Debug = False,
) -> None:
    """Make one checkpoint of several networks, whose predictions are averaged.

    Args:
      members: folder of a cross-validate run that kept its folds' networks, or at least two checkpoints of one kind.
      out: folder for the ensemble; must not exist yet. It is for jaxdl predict.
      debug: show the traceback of an error.
    """
    check_free(out, bucket=True)
    made = ensemble(members[0] if len(members) == 1 else list(members))
    path = save_ensemble(made, out)
    console.print(f"{len(made.cards)} networks in {path}", soft_wrap=True)
    known = [card for card in made.cards if card.trained_on is not None]
    if len(known) == len(made.cards):
        console.print("It is scored only on examples new to all of them; predict --out-of-fold serves the others.")
    else:
        console.print(f"{len(made.cards) - len(known)} do not say what they were trained on: it will not be scored.")
    if made.held_out is not None:
        console.print("predict --coverage 0.9 gives sets or intervals that hold the truth so often.")
