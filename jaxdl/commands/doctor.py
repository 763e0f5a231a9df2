"""``jaxdl doctor``."""

import json
import sys
from pathlib import Path
from typing import Annotated

import tyro

from jaxdl.cli_options import Debug
from jaxdl.commands.console import console
from jaxdl.parallel.doctor.findings import as_json, findings
from jaxdl.parallel.doctor.gather import gather
from jaxdl.parallel.doctor.table import lines
from jaxdl.weights.files import check_free, write_text

ILL = 1  # exit code where something is misconfigured


def doctor_command(
    *,
    speed: bool = True,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE", help_behavior_hint="")] = None,
    debug: Debug = False,
) -> None:
    """Say what is here to compute on, and how to mend what is misconfigured.

    Args:
      speed: time a matrix product and the memory of the device, for two seconds.
      json_file: file for all facts and findings; must not exist yet.
      debug: show the traceback of an error.
    """
    out = None if json_file is None else check_free(json_file, "--json")
    facts = gather(speed)
    found = findings(facts)
    for line in lines(facts, found):
        console.print(line, soft_wrap=True, highlight=False)
    if out is not None:
        write_text(out, json.dumps(as_json(facts, found), indent=2) + "\n")
        console.print(f"all facts in {out}", soft_wrap=True, highlight=False)
    if found:
        sys.exit(ILL)
