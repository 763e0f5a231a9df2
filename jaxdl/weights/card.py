"""The card of a checkpoint: what there is to know about it besides its numbers."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.preprocessing import Preprocessing
from jaxdl.errors import InputError

FORMAT = 1
CARD, ARRAYS = "card.json", "variables"
ENSEMBLE = "ensemble.json"  # what the folder of an ensemble has instead of a card; see `validation.ensemble`
TRAINED_ON = "trained_on.u64"  # beside the card: the hashes, 8 bytes each, in rising order


@dataclasses.dataclass(frozen=True)
class Card:
    """What there is to know about a checkpoint besides its numbers.

    Attributes:
      preprocessing: how examples were brought to the network's input.
      class_names: of the outputs, in order; empty if unknown.
      parent: the checkpoint that training started from, or None.
      data: name of the source trained on, or None.
      split: sha256 of the training indices, or None.
      plan: of the training, as plain values, or None.
      source: file and sha256 of converted weights, or None.
      scaling: of a network that predicts a number: what its output is multiplied by comes second, what is then added
        first; None of one that tells classes apart.
      columns: names of the features of a table, in order; None where they have none.
      trained_on: hashes (`data.content.hash_examples`) of all examples that the weights were shaped by, those of the
        parents included where their cards list them: 8 bytes each, in rising order (see `seen`). None if unknown.
    """

    preprocessing: Preprocessing
    class_names: tuple[str, ...] = ()
    parent: str | None = None
    data: str | None = None
    split: str | None = None
    plan: Mapping[str, Any] | None = None
    source: Mapping[str, Any] | None = None
    scaling: tuple[float, float] | None = None
    columns: tuple[str, ...] | None = None
    trained_on: bytes | None = None

    @property
    def seen(self) -> np.ndarray:
        """`trained_on` as ``uint64[n]``; empty if unknown."""
        return np.frombuffer(self.trained_on or b"", "<u8")

    def with_seen(self, hashes: np.ndarray) -> "Card":
        """The same card, which also lists examples of these hashes ``uint64[n]`` as trained on."""
        return dataclasses.replace(self, trained_on=np.union1d(self.seen, hashes).astype("<u8").tobytes())


def read_card(path: Path) -> tuple[Card, dict[str, Any]]:
    """The card of the checkpoint in the folder `path`, and all that its file holds.

    Raises:
      InputError: if there is no checkpoint, or its card is damaged or newer than this jaxdl.
    """
    if not path.exists():
        raise InputError(f"there is no checkpoint '{path}'")
    if (path / ENSEMBLE).is_file():
        raise InputError(
            f"'{path}' is an ensemble of several networks, which only predicts; expected a checkpoint of one, such as "
            "those that it was made of"
        )
    if not (path / CARD).is_file():
        torn = " (writing it was interrupted: it has arrays)" if (path / ARRAYS).is_dir() else ""
        raise InputError(f"'{path}' is not a jaxdl checkpoint: it has no {CARD}{torn}")
    try:
        held = json.loads((path / CARD).read_text())
        written = held["format"]
        if type(written) is not int or not 1 <= written <= FORMAT:
            raise InputError(
                f"'{path}' was written in checkpoint format {written}; this jaxdl reads up to {FORMAT}: update jaxdl"
            )
        card = parse_card(held)
        listed = held.get("trained_on")  # older cards have none
        return (card if listed is None else dataclasses.replace(card, trained_on=_read_seen(path, listed))), held
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"the card '{path / CARD}' is damaged ({type(error).__name__}: {error})") from error


def plain_card(card: Card) -> dict[str, Any]:
    """The card as values for JSON; of what was trained on only how much, and a hash of `TRAINED_ON`."""
    plain = dataclasses.asdict(card)
    if card.trained_on is not None:
        plain["trained_on"] = _about_seen(card.trained_on)
    return plain


def _about_seen(hashes: bytes) -> dict[str, Any]:
    return {"examples": len(hashes) // 8, "sha256": hashlib.sha256(hashes).hexdigest()}


def _read_seen(path: Path, listed: Mapping[str, Any]) -> bytes:
    file = path / TRAINED_ON
    if not file.is_file() or _about_seen(hashes := file.read_bytes()) != dict(listed):
        raise InputError(
            f"'{file}', which lists the examples that the checkpoint was trained on, is missing or not that of its "
            "card. Take it from the same copy of the checkpoint"
        )
    return hashes


def parse_card(held: Mapping[str, Any]) -> Card:
    """The card of a file's plain values, without `trained_on`; what is wrong comes as one of many kinds of errors."""
    newer = ("scaling", "columns", "trained_on")
    fields = {f.name: held[f.name] for f in dataclasses.fields(Card) if f.name not in newer}
    if (scaling := held.get("scaling")) is not None:  # older cards have none
        mean, spread = map(float, scaling)
        if not (np.isfinite(mean) and 0 < spread < np.inf):
            raise ValueError(f"scaling is {scaling}")
        fields["scaling"] = mean, spread
    if (columns := held.get("columns")) is not None:
        if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
            raise TypeError(f"columns is {str(columns)[:50]}")
        fields["columns"] = tuple(columns)
    shape = held["preprocessing"]
    fields["preprocessing"] = Preprocessing(**{k: tuple(v) if isinstance(v, list) else v for k, v in shape.items()})
    fields["class_names"] = names = tuple(held["class_names"])
    if names and len(names) != held["num_outputs"]:
        raise ValueError(f"it names {len(names)} classes for {held['num_outputs']} outputs")
    if missing := {"model", "arguments"} - held.keys():
        raise KeyError(*missing)
    _check_kinds(held)
    return Card(**fields)


def _check_kinds(held: Mapping[str, Any]) -> None:
    """Raises TypeError for a value of a card whose kind would only surprise whoever uses it later."""
    text, table = (str, type(None)), (dict, type(None))
    kinds = {"parent": text, "data": text, "split": text, "fingerprint": text, "plan": table, "source": table}
    for key, kind in {"model": str, **kinds}.items():
        if not isinstance(held.get(key), kind):
            raise TypeError(f"{key} is {str(held[key])[:50]}")
    if not isinstance(held["class_names"], list) or not all(isinstance(name, str) for name in held["class_names"]):
        raise TypeError("class_names is no list of names")
