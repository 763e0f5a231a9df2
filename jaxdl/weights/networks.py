"""Which tensors of a file are the network: what training scripts put around its weights is taken off.

Names begin with those of what held the network when it was saved, such as ``module.`` (DistributedDataParallel),
``model.`` (Lightning), ``_orig_mod.`` (torch.compile), ``state_dict_ema.`` (timm) or ``params/`` (big_vision), in any
order. So the beginning is looked for after which a key table knows the most names.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from jaxdl.errors import InputError
from jaxdl.weights.keys import Row, Table

# what may stand anywhere in a name, and says only how the part behind it was run
WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
AVERAGED = re.compile(r"(?:^|[._/])(?:ema|teacher|momentum_encoder|encoder_k|swa_model|avg_model|averaged)(?:$|[._/])")
EMA, MODEL = "ema", "model"
MAE = "a masked autoencoder's decoder and mask token, which serve its own training alone"
# tensors that no network here has, by patterns of their names, and what they are
LEFT_OUT = (
    *((name, MAE) for name in ("mask_token", "*.mask_token", "decoder_*", "decoder.*", "*.decoder_pos_embed")),
    ("*n_averaged", "the number of steps averaged"),
    ("*total_ops", "operations counted by a profiler"),
    ("*total_params", "operations counted by a profiler"),
)
HEAD = "the head, as asked for"
ALIKE = 0.9  # share of the most names known from which another beginning is a network of this kind, too


@dataclasses.dataclass(frozen=True)
class Place:
    """Where in a file a network may be.

    Attributes:
      prefix: with which its names begin.
      added: with what they begin in the key table and not in the file.
      known: how many of its tensors fill something.
    """

    prefix: str
    added: str = ""
    known: int = 0

    @property
    def averaged(self) -> bool:
        """Whether its names say that it is an average over steps, which mostly predicts better."""
        return AVERAGED.search(self.prefix) is not None

    def __str__(self) -> str:
        return f"'{self.prefix}' ({self.known} tensors)" if self.prefix else f"no beginning ({self.known} tensors)"


class Network(Mapping[str, np.ndarray]):
    """The tensors of one network, by their names in a key table; each is read when it is asked for."""

    def __init__(self, tensors: Mapping[str, np.ndarray], names: Mapping[str, str]):
        self.tensors, self.names = tensors, names

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[self.names[name]]


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """A network in a file.

    Attributes:
      tensors: by their names in the key table.
      place: where they were.
      layout: of the key table.
      dropped: names in the file of the tensors left out, with the reasons.
      note: which of several networks was taken, and how to take another; empty where there is one.
    """

    tensors: Network
    place: Place
    layout: str
    dropped: Mapping[str, str]
    note: str = ""


def find_network(
    tensors: Mapping[str, np.ndarray], tables: Mapping[str, Table], stem: str, which: str | None = None
) -> Found:
    """The network in a file's tensors that one of several key tables describes.

    Args:
      tensors: all of the file.
      tables: of the model, by layout; the one that knows most names is used, the first of several such.
      stem: the leaf that sees the image, see `Keys`.
      which: of several networks: ``"ema"`` for the averaged one, ``"model"`` for the one that is not, or with what its
        names begin; by default the averaged one, if there is one.

    Raises:
      InputError: if there are several, or none as asked for.
    """
    cleaned = {WRAPPERS.sub("", name): name for name in tensors}
    everywhere = {layout: _places(tuple(cleaned), table, stem) for layout, table in tables.items()}
    layout = max(everywhere, key=lambda known: max(place.known for place in everywhere[known]))
    table, places = tables[layout], everywhere[layout]
    place = _chosen(places, which)
    others = {one: "--weights " + _how(one, place) for one in places if one is not place}
    names, dropped = {}, {}
    for name, held in cleaned.items():
        inside = place.added + name.removeprefix(place.prefix)
        if not name.startswith(place.prefix):
            dropped[held] = _why_outside(name, place, others)
        elif why := _left_out(inside, table):
            dropped[held] = why
        else:
            names[inside] = held
    note = ""
    if others:
        kind = "averaged (EMA) " if place.averaged else ""
        note = f"the {kind}weights {place} are taken; " + ", ".join(
            f"{option} takes those of {one}" for one, option in others.items()
        )
    return Found(Network(tensors, names), place, layout, dropped, note)


def _places(names: Sequence[str], table: Table, stem: str) -> list[Place]:
    """Where most names are known, and where nearly as many are: these are networks, too."""
    known: dict[str, bool] = {}

    def fills(name: str) -> bool:
        if name not in known:
            known[name] = any(row.leaves_of(name) for row in table)
        return known[name]

    possible = {("", ""), *before_stem(names, table, stem)}
    held = {(p, added): [added + n[len(p) :] for n in names if n.startswith(p)] for p, added in possible}
    best, found, taken = 0, [], set()
    for (prefix, added), inside in sorted(held.items(), key=lambda item: (-len(item[1]), len(item[0][0]), item[0])):
        if len(inside) <= ALIKE * best:
            break
        filling = {prefix + name.removeprefix(added) for name in inside if fills(name)}
        if filling and filling <= taken:  # of the same network, without its outer name: features.0.0, and 0.0
            continue
        place = Place(prefix, added, len(filling))
        best = max(best, place.known)
        found.append(place)
        taken |= filling
    return [place for place in found if place.known > ALIKE * best] or [Place("")]


def before_stem(names: Sequence[str], table: Table, stem: str) -> Iterator[tuple[str, str]]:
    """What stands before the tensor of the leaf `stem`, and the first word that it may lack."""
    for tensor in {found[0] for row in table if (found := row.tensor_of(stem))}:
        first = re.match(r"\w+[./]", tensor)
        for added in ("", first[0] if first else ""):
            tail = tensor.removeprefix(added)
            if added and len(re.findall("[./]", tail)) < 2:
                continue  # too little to know it by
            for name in names:
                before = name.removesuffix(tail)
                if before != name and (not before or before[-1] in "./"):
                    yield before, added


def _chosen(places: Sequence[Place], which: str | None) -> Place:
    shown = ", ".join(map(str, places))
    if which is None:
        fitting = [place for place in places if place.averaged] or list(places)
    elif which in (EMA, MODEL):
        fitting = [place for place in places if place.averaged == (which == EMA)]
        if not fitting:
            kind = "averaged (EMA) weights" if which == EMA else "weights that are not averaged"
            raise InputError(f"weights is '{which}', but the file has no {kind}; its network is at {shown}")
    else:
        fitting = [place for place in places if place.prefix.strip("./") == which.strip("./")]
        if not fitting:
            raise InputError(f"weights is '{which}'; expected ema, model, or one of the file's beginnings: {shown}")
    if len(fitting) > 1:
        raise InputError(
            f"the file holds {len(fitting)} networks: {', '.join(map(str, fitting))}; choose one by its beginning: "
            f"--weights {fitting[0].prefix.strip('./') or MODEL}, in Python weights="
        )
    return fitting[0]


def _how(other: Place, place: Place) -> str:
    """The option that chooses `other`."""
    if other.averaged != place.averaged:
        return EMA if other.averaged else MODEL
    return other.prefix.strip("./") or MODEL


def _why_outside(name: str, place: Place, others: Mapping[Place, str]) -> str:
    for other, option in others.items():
        if name.startswith(other.prefix):
            return f"another network of the file, which {option} takes"
    return _matches(name) or f"not of the network, whose names begin with '{place.prefix}'"


def _left_out(name: str, table: Table) -> str:
    """Why a tensor of the network is left out; empty where the table has a row for it."""
    return "" if any(row.leaves_of(name) is not None for row in table) else _matches(name)


def _matches(name: str) -> str:
    return next((why for pattern, why in LEFT_OUT if fnmatchcase(name, pattern)), "")


def without_head(table: Table) -> Table:
    """The table that drops all tensors of the head, and of what was in its place."""
    kept = [row for row in table if not any(leaf.split("/")[1] == "head" for leaf in row.leaves)]
    heads = [row for row in table if row not in kept]
    words = dict.fromkeys(re.match(r"\w+[./]", row.theirs)[0] for row in heads if row.ours)
    return (*kept, *(Row(f"{word}*", None, why=HEAD) for word in words))
