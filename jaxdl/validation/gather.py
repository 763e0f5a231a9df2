"""The parts of a cross-validation, trained on machines that share nothing, as the one result that they are parts of."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl.errors import InputError
from jaxdl.training.resume import differences
from jaxdl.validation.baselines import Trees, beside_baselines
from jaxdl.validation.parts import Part, Share
from jaxdl.validation.result import Result, concatenated, mean_and_spread, taken
from jaxdl.validation.statistics.summary import summarised
from jaxdl.validation.told import StrategyTold


def gather(parts: Mapping[str, Part]) -> Result:
    """The result of all folds, as one machine would have given it; `Result.seconds` are the sum of all parts'.

    Args:
      parts: by the name that a message calls each.

    Raises:
      InputError: for parts of different runs, made by different versions, or where some are missing or there twice.
    """
    _check_same(parts)
    _check_complete({name: part.share for name, part in parts.items()})
    held = sorted(parts.values(), key=lambda part: part.share.number)
    first = held[0].result
    rows = concatenated([part.result.out_of_fold for part in held])
    order = np.argsort(rows.fold, kind="stable")
    folds = sorted((row for part in held for row in part.result.folds), key=lambda row: row["fold"])
    mean, std = mean_and_spread([row[first.metric] for row in folds])
    result = dataclasses.replace(
        first,
        mean=mean,
        std=std,
        folds=folds,
        fold_strategy=_strategy(held),
        seconds=sum(part.result.seconds for part in held),
        out_of_fold=rows.take(order),
        curves=_curves(held),
        streamed=next((part.result.streamed for part in held if part.result.streamed), None),
        own=first.asked.scored_by(first.metric),
    )
    constant = concatenated([part.constant for part in held])
    result = beside_baselines(result, taken(constant, order), _trees(held, order))
    return summarised(result, method=held[0].interval)


def _check_same(parts: Mapping[str, Part]) -> None:
    """That all are parts of one run."""
    (one, first), *others = parts.items()
    for name, part in others:
        if different := list(differences(first.settings, part.settings, words=(f"in '{one}'", f"in '{name}'"))):
            raise InputError(
                f"'{one}' and '{name}' are parts of different runs:\n  "
                + "\n  ".join(different)
                + "\nExpected parts that the same command made, but for --folds-of and --out"
            )
        versions = [{key: held.environment.get(key) for key in ("python", "packages")} for held in (first, part)]
        if different := list(differences(*versions, words=(f"in '{one}'", f"in '{name}'"))):
            raise InputError(
                f"'{one}' and '{name}' were made by different versions:\n  "
                + "\n  ".join(different)
                + f"\nInstall the same, and run one of them again: --folds-of {part.share} made '{name}'"
            )
        if part.environment != first.environment:
            different = "; ".join(differences(first.environment, part.environment, words=("there", "here")))
            said = f"'{one}' and '{name}' ran on other devices, their last bits may differ: {different}"
            warnings.warn(said, stacklevel=3)


def _check_complete(shares: Mapping[str, Share]) -> None:
    """That every part is there once."""
    found: dict[int, str] = {}
    one, first = next(iter(shares.items()))
    for name, share in shares.items():
        if share.of != first.of:
            raise InputError(
                f"'{one}' is part {first} and '{name}' is part {share} of the folds; expected parts of one division: "
                f"run what is missing with --folds-of 0/{first.of} to {first.of - 1}/{first.of}"
            )
        if share.number in found:
            raise InputError(f"'{found[share.number]}' and '{name}' are both part {share}; leave one of them out")
        found[share.number] = name
    if missing := [str(Share(number, first.of)) for number in range(first.of) if number not in found]:
        again = " and ".join(f"--folds-of {share}" for share in missing)
        parts = f"part {missing[0]} is" if len(missing) == 1 else f"parts {', '.join(missing)} are"
        raise InputError(f"{parts} missing; run the same command with {again}, then gather all {first.of}")


def _strategy(parts: Sequence[Part]) -> StrategyTold:
    """How the folds were trained; where that differs, what each part says."""
    told = [part.result.fold_strategy for part in parts]
    if all((one["name"], one["reason"]) == (told[0]["name"], told[0]["reason"]) for one in told):
        return told[0]
    names = ", ".join(dict.fromkeys(one["name"] for one in told))
    reasons = "; ".join(f"part {part.share}: {one['reason']}" for part, one in zip(parts, told, strict=True))
    return {"name": names, "reason": reasons}


def _curves(parts: Sequence[Part]) -> list[Mapping[str, Any]]:
    """All rows, in the order in which one machine would have made them."""
    rows = sorted((row for part in parts for row in part.result.curves), key=lambda row: row["fold"])
    if any(part.result.fold_strategy["name"] != "loop" for part in parts):  # folds were trained at once
        rows.sort(key=lambda row: row["epoch"])
    return rows


def _trees(parts: Sequence[Part], order: np.ndarray) -> Trees:
    """Those of all folds; left out where they are in one part, as one machine leaves them out for one fold."""
    grown = [part.trees for part in parts]
    if left_out := next((trees for trees in grown if trees.kept is None), None):
        return left_out
    kept = concatenated([trees.kept for trees in grown])
    return Trees(taken(kept, order), sum(trees.seconds for trees in grown))
