"""An ensemble as a folder: an Orbax directory of the members' stacked variables, and one card of them all."""

import dataclasses
import io
import json
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.errors import InputError
from jaxdl.models import create, describe
from jaxdl.models.staged import init_variables
from jaxdl.validation.ensemble import EnsembleCheckpoint
from jaxdl.weights.card import ENSEMBLE, Card, parse_card, plain_card
from jaxdl.weights.checkpoint import environment, fingerprint, read_arrays, write_arrays
from jaxdl.weights.files import check_free, first_line, written_whole

FORMAT = 1
TRAINED_ON = "trained_on.npz"  # the hashes of all examples, and which member was trained on which


def save_ensemble(ensemble: EnsembleCheckpoint, path: str | Path) -> Path:
    """Writes an ensemble, all of it or nothing.

    Args:
      ensemble: what to write.
      path: a folder that does not exist yet or is empty.

    Returns:
      The absolute path.

    Raises:
      InputError: if something is there already, or it cannot be written.
    """
    path = check_free(path)
    name, arguments = describe(ensemble.model)
    variables = jax.tree.map(jax.numpy.asarray, ensemble.variables)
    listed = _pack_seen(ensemble.cards)
    card = {
        "format": FORMAT,
        "model": name,
        "arguments": arguments,
        "num_outputs": ensemble.model.num_outputs,
        "fingerprint": fingerprint(variables),
        "members": [plain_card(member) for member in ensemble.cards],
        "trained_on": sha256(listed).hexdigest(),
        "environment": environment(),
    }
    with written_whole(path) as work:
        write_arrays(work, variables, path)
        (work / TRAINED_ON).write_bytes(listed)
        (work / ENSEMBLE).write_text(json.dumps(card, indent=1))
    return path


def is_ensemble(path: str | Path) -> bool:
    """Whether the folder is one that `save_ensemble` wrote."""
    return (Path(path).expanduser() / ENSEMBLE).is_file()


def load_ensemble(path: str | Path) -> EnsembleCheckpoint:
    """What `save_ensemble` wrote.

    Raises:
      InputError: if it is not there, damaged, or of a newer jaxdl.
    """
    path = Path(path).expanduser().absolute()
    if not is_ensemble(path):
        torn = " (writing it was interrupted: it has arrays)" if (path / TRAINED_ON).is_file() else ""
        raise InputError(f"'{path}' is not an ensemble: it has no {ENSEMBLE}{torn}; jaxdl ensemble makes one")
    try:
        held = json.loads((path / ENSEMBLE).read_text())
        if held["format"] > FORMAT:
            raise InputError(f"'{path}' is of format {held['format']}, newer than this jaxdl: update jaxdl")
        shared = {key: held[key] for key in ("model", "arguments", "num_outputs")}
        cards = [parse_card({**card, **shared}) for card in held["members"]]
        if len(cards) < 2:
            raise ValueError(f"it has {len(cards)} members")
        model = create(held["model"], held["num_outputs"], **held["arguments"])
        cards = _unpack_seen(path / TRAINED_ON, held["trained_on"], cards)
        shape = cards[0].preprocessing.input_shape
        one = jax.eval_shape(lambda key: init_variables(model, key, shape), jax.random.key(0))
        known = str(held["fingerprint"])
    except InputError:
        raise
    except Exception as error:  # sizes that nobody would write, of which JAX says many things
        raise InputError(f"the ensemble '{path}' is damaged ({first_line(error)})") from error
    expected = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((len(cards), *leaf.shape), leaf.dtype), one)
    return EnsembleCheckpoint(model, read_arrays(path, expected, known), tuple(cards), str(path))


def _pack_seen(cards: Any) -> bytes:
    """Of members that share most of their examples, each hash once."""
    hashes = np.unique(np.concatenate([card.seen for card in cards]))
    arrays = {
        "hashes": hashes,
        "known": np.array([card.trained_on is not None for card in cards]),
        "members": np.stack([np.packbits(np.isin(hashes, card.seen)) for card in cards]),
    }
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _unpack_seen(file: Path, known_sha256: str, cards: list[Card]) -> list[Card]:
    content = file.read_bytes() if file.is_file() else b""
    if sha256(content).hexdigest() != known_sha256:
        raise InputError(
            f"'{file}', which lists the examples that the members were trained on, is missing or not that of its card. "
            "Take it from the same copy of the ensemble"
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            hashes, known, members = held["hashes"], held["known"], held["members"]
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"'{file}' is damaged ({error})") from error
    seen = np.unpackbits(members, axis=1, count=len(hashes)).astype(bool)
    return [
        dataclasses.replace(card, trained_on=hashes[mine].astype("<u8").tobytes() if said else None)
        for card, mine, said in zip(cards, seen, known, strict=True)
    ]
