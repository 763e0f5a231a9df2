"""What to do where somebody names something else than a checkpoint."""

import json
import shlex
from pathlib import Path

from jaxdl.models import MODELS
from jaxdl.weights.published import published
from jaxdl.weights.read import SUFFIXES

CARD, ARRAYS = "card.json", "variables"
RUN, RESULT = "run.json", "result.json"


def why_no_checkpoint(path: Path) -> str:
    """Why `path`, which has no card, is no checkpoint, and what to name or do instead."""
    if not path.exists():
        return _missing(path)
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            return f"'{path}' is not a jaxdl checkpoint but a file; expected a folder that has a {CARD}"
        return (
            f"'{path}' is a file of weights, not a checkpoint; make one of it by: jaxdl convert --from "
            f"{shlex.quote(str(path))} --out CKPT (--model NAME says of which model), then name CKPT"
        )
    if (path / ARRAYS).is_dir():
        return f"'{path}' is not a jaxdl checkpoint: it has no {CARD} (writing it was interrupted: it has arrays)"
    inside = sorted(file.parent for pattern in (f"*/{CARD}", f"*/*/{CARD}") for file in path.glob(pattern))
    kind, finished = _run(path)
    what = f"not a jaxdl checkpoint but a run of {kind}" if kind else f"not a jaxdl checkpoint: it has no {CARD}"
    if inside:
        count = f"the {len(inside)} in it" if len(inside) > 1 else "that in it"
        together = f"; jaxdl ensemble {shlex.quote(str(path))} makes one of all" if (path / RESULT).is_file() else ""
        return f"'{path}' is {what}; name a checkpoint, {count}: '{inside[0]}'{', …' if inside[1:] else ''}{together}"
    if (path / RESULT).is_file():
        return (
            f"'{path}' is {what}, which kept no networks: run it again with --keep-models always --restart, then name "
            f"'{path / 'folds' / '0'}'"
        )
    if not finished:
        return f"'{path}' is {what} that is not finished; the command that began it goes on with it"
    return f"'{path}' is {what}"


def _missing(path: Path) -> str:
    if path.name not in MODELS:
        return f"there is no checkpoint '{path}'"
    hub = next((row.source for row in published(path.name) if row.source.startswith("hf:")), None)
    start = f"; --init {hub} starts from its published weights" if hub else ""
    return (
        f"there is no checkpoint '{path}'; {path.name} is the name of a model: jaxdl pretrain, cross-validate and "
        f"search train it from scratch with --model {path.name}{start}"
    )


def _run(path: Path) -> tuple[str, bool]:
    """The command that made the run in a folder, empty where nothing says so, and whether it came to its end."""
    try:
        run = json.loads((path / RUN).read_text(encoding="utf-8")) if (path / RUN).is_file() else {}
        return str(run.get("kind") or ""), run.get("finished") is not False
    except (OSError, ValueError, AttributeError):  # whoever reads the run says what is wrong with it
        return "", True
