"""An ensemble as a folder: an Orbax directory of the members' stacked variables, and one card of them all."""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import jax
import numpy as np

from jaxdl.errors import InputError
from jaxdl.models import describe, rebuild
from jaxdl.models.initialise import variable_shapes
from jaxdl.models.variables import nest
from jaxdl.validation.conformal.held_out import HeldOut
from jaxdl.validation.ensemble import EnsembleCheckpoint
from jaxdl.validation.result import OutOfFold
from jaxdl.weights.buckets import place_of
from jaxdl.weights.card import ENSEMBLE, Card, lists_of, parse_card, plain_card
from jaxdl.weights.checkpoint import OwnModels, environment, fingerprint, read_arrays, write_arrays
from jaxdl.weights.files import check_free, from_plain, read_json, read_npz, reading, written_whole

FORMAT = 1
TRAINED_ON = "trained_on.npz"  # the hashes of all examples, and which member was trained on which or tested which
HELD_OUT = "held_out.npz"  # what the members said of the examples that they tested
KEYS = {"trained_on": ("known", "members"), "tested": ("tested_known", "tested")}  # of the arrays of each list


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
    path = check_free(path, bucket=True)
    name, arguments = describe(ensemble.model)
    variables = jax.tree.map(jax.numpy.asarray, ensemble.variables)
    listed = _pack_lists(ensemble.cards)
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
    held_out = None if ensemble.held_out is None else _archive(ensemble.held_out.rows.arrays())
    if held_out is not None:
        card["held_out"] = {"sha256": sha256(held_out).hexdigest(), "cautions": list(ensemble.held_out.cautions)}
    with written_whole(path) as work:
        write_arrays(work, variables, path)
        (work / TRAINED_ON).write_bytes(listed)
        if held_out is not None:
            (work / HELD_OUT).write_bytes(held_out)
        (work / ENSEMBLE).write_text(json.dumps(card, indent=1))
    return path


def is_ensemble(path: str | Path) -> bool:
    """Whether the folder is one that `save_ensemble` wrote."""
    return (place_of(path) / ENSEMBLE).is_file()


def load_ensemble(path: str | Path, *, models: OwnModels = None) -> EnsembleCheckpoint:
    """What `save_ensemble` wrote.

    Args:
      path: the folder.
      models: of your own, see `restore`.

    Raises:
      InputError: if it is not there, damaged, or of a newer jaxdl.
    """
    path = place_of(path).absolute()
    if not is_ensemble(path):
        torn = " (writing it was interrupted: it has arrays)" if (path / TRAINED_ON).is_file() else ""
        raise InputError(f"'{path}' is not an ensemble: it has no {ENSEMBLE}{torn}; jaxdl ensemble makes one")
    held = read_json(path / ENSEMBLE, newest=FORMAT)
    with reading(path / ENSEMBLE):
        shared = {key: held[key] for key in ("model", "arguments", "num_outputs")}
        cards = [parse_card({**card, **shared}) for card in held["members"]]
        if len(cards) < 2:
            raise ValueError(f"it has {len(cards)} members")
        listed, known = str(held["trained_on"]), str(held["fingerprint"])
        spec = cards[0].preprocessing.spec()
        model = rebuild(held["model"], held["num_outputs"], held["arguments"], models)
        one = variable_shapes(model, spec)
        about = held.get("held_out")  # which older ensembles do not have
        known_rows, cautions = (
            (None, ()) if about is None else (str(about["sha256"]), tuple(map(str, about["cautions"])))
        )
    cards = _unpack_lists(path / TRAINED_ON, listed, cards)
    expected = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((len(cards), *leaf.shape), leaf.dtype), one)
    held_out = None if about is None else HeldOut(_read_rows(path / HELD_OUT, known_rows, len(cards)), cautions)
    return EnsembleCheckpoint(model, read_arrays(path, expected, known), tuple(cards), str(path), held_out)


def _pack_lists(cards: Sequence[Card]) -> bytes:
    """Of members that share most of their examples, each hash once."""
    lists = [np.frombuffer(held, "<u8") for card in cards for held in lists_of(card).values()]
    hashes = np.unique(np.concatenate([np.zeros(0, np.uint64), *lists]))
    arrays = {"hashes": hashes}
    for name, (known, members) in KEYS.items():
        held = [getattr(card, name) for card in cards]
        arrays[known] = np.array([one is not None for one in held])
        arrays[members] = np.stack([np.packbits(np.isin(hashes, np.frombuffer(one or b"", "<u8"))) for one in held])
    return _archive(arrays)


def _archive(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _read_archive(file: Path, known_sha256: str, what: str) -> dict[str, np.ndarray]:
    content = file.read_bytes() if file.is_file() else b""
    if sha256(content).hexdigest() != known_sha256:
        raise InputError(
            f"'{file}', which {what}, is missing or not that of its card. Take it from the same copy of the ensemble"
        )
    return read_npz(file)


def _read_rows(file: Path, known_sha256: str, members: int) -> OutOfFold:
    arrays = _read_archive(file, known_sha256, "holds what the members said of the examples that they tested")
    with reading(file):
        rows = from_plain(OutOfFold, nest(arrays))
        if len({len(array) for array in arrays.values()}) != 1 or not len(rows.fold):
            raise ValueError("its arrays do not have as many rows each")
        if not set(np.unique(rows.fold)) <= set(range(members)):
            raise ValueError(f"its folds are not of the {members} members")
    return rows


def _unpack_lists(file: Path, known_sha256: str, cards: Sequence[Card]) -> list[Card]:
    arrays = _read_archive(file, known_sha256, "lists the examples that the members were trained on")
    with reading(file):
        hashes = arrays["hashes"]
        for name, (known, members) in KEYS.items():
            if name == "tested" and known not in arrays:
                continue  # older ensembles do not list it
            bits = np.unpackbits(arrays[members], axis=1, count=len(hashes)).astype(bool)
            lists = [
                hashes[mine].astype("<u8").tobytes() if listed else None
                for mine, listed in zip(bits, arrays[known], strict=True)
            ]
            cards = [dataclasses.replace(card, **{name: one}) for card, one in zip(cards, lists, strict=True)]
    return list(cards)
