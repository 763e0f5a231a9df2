"""What a compiled program holds, read from its text (`Compiled.as_text()`): how devices talk, and estimated cycles.

The text names a loop's body once; what is in it is counted as often as the loop runs.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

KINDS = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "collective-permute", "collective-broadcast")

_BITS = re.compile(r"(?:pred|[a-z]+?(\d+))[a-z0-9]*$")  # of a type, such as f32, bf16, s8, f8e4m3fn
_SHAPE = re.compile(r"\b([a-z]+[a-z0-9]*)\[([\d,]*)\]")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)')


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of a kind in one run of a program.

    Attributes:
      count: how many run.
      bytes: of the whole arrays: what an all-reduce sums, an all-gather gives, and a reduce-scatter takes, per device.
      sent: bytes that each device sends, at least: 2 (n - 1) / n of an all-reduce's among n devices, (n - 1) / n of
        what is gathered, scattered or exchanged, all that is permuted.
    """

    count: int = 0
    bytes: int = 0
    sent: float = 0.0

    @classmethod
    def among(cls, devices: int, kind: str, count: int, nbytes: int) -> "Collective":
        """So many of a kind among so many devices, of arrays of `nbytes` in all."""
        share = {"all-reduce": 2 * (devices - 1) / devices, "collective-permute": 1.0}
        return cls(count, nbytes, nbytes * share.get(kind, (devices - 1) / devices))

    def __add__(self, other: "Collective") -> "Collective":
        return Collective(self.count + other.count, self.bytes + other.bytes, self.sent + other.sent)


@dataclasses.dataclass(frozen=True)
class Held:
    """What one run of a program comes to, on each device.

    Attributes:
      collectives: by kind (`KINDS`); kinds that are absent are left out.
      cycles: that the TPU compiler estimates, added up; 0 where the compiler estimates none. It estimates none for
        collectives.
      unknown_loops: loops of which the text does not say how often they run: counted once.
    """

    collectives: dict[str, Collective]
    cycles: int
    unknown_loops: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends, at least."""
        return sum(one.sent for one in self.collectives.values())


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    operation: str
    rest: str
    root: bool

    @property
    def called(self) -> dict[str, str]:
        return dict(_CALLED.findall(self.rest))


def holds(text: str, devices: int) -> Held:
    """Reads the text of a compiled program.

    Args:
      text: as `jax.stages.Compiled.as_text` gives it.
      devices: that it is compiled for: how many take part in a collective that names no groups.
    """
    entry, computations = _computations(text)
    found: dict[str, Collective] = {}
    cycles = unknown = 0
    seen: set[tuple[str, str]] = set()
    for one, times, where, inside in _walk(entry, computations):
        if not inside:
            estimated = _CYCLES.search(one.rest)
            cycles += times * int(estimated[1]) if estimated else 0
        if one.operation == "while" and _trips(one, computations) is None:
            unknown += 1
        if (kind := _kind(one)) is not None:
            # in fusions alone: on the CPU all collectives of a shard_map have one channel
            channel = re.search(r"channel_id=\d+", one.rest) if inside else None
            if channel and (where, channel[0]) in seen:
                continue  # of the TPU compiler: begin, middle and end of one that runs beside computations
            seen.update([(where, channel[0])] if channel else [])
            if kind == "all-reduce" and _is_scatter(inside, computations):
                kind = "reduce-scatter"  # of the TPU compiler: a fusion of an all-reduce and the slice that is kept
                nbytes = _bytes(one.shape)
            else:
                nbytes = _whole(one, kind, devices)
            more = Collective.among(_group_size(one.rest, devices), kind, times, times * nbytes)
            found[kind] = found.get(kind, Collective()) + more
    return Held(found, cycles, unknown)


def _walk(
    name: str, computations: dict, times: int = 1, fusion: str = ""
) -> Iterator[tuple[_Instruction, int, str, str]]:
    """Every instruction that runs, how often, the computation that schedules it, and the fusion that it is in."""
    for one in computations.get(fusion or name, ()):
        yield one, times, name, fusion
        called = one.called
        if one.operation == "while":
            yield from _walk(called["body"], computations, times * (_trips(one, computations) or 1))
        elif one.operation == "fusion":
            yield from _walk(name, computations, times, called["calls"])
        elif one.operation in ("call", "async-start", "conditional"):
            names = [
                called[key] for key in ("calls", "to_apply", "true_computation", "false_computation") if key in called
            ]
            names += re.findall(r"%?([\w.\-]+)", "".join(_BRANCHES.findall(one.rest)))
            for other in names:
                yield from _walk(other, computations, times)


def _computations(text: str) -> tuple[str, dict[str, list[_Instruction]]]:
    """The name of the first that runs, and the instructions of all."""
    entry, current = "", None
    found: dict[str, list[_Instruction]] = {}
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = found.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (parsed := _LINE.match(line)):
            current.append(_instruction(parsed[2], parsed[3], bool(parsed[1])))
    return entry, found


def _instruction(name: str, said: str, root: bool) -> _Instruction:
    """Of what follows ``name = ``: a type (a tuple's in brackets), the operation and the rest."""
    end = _closing(said[1:]) + 2 if said.startswith("(") else said.index(" ")
    operation, _, rest = said[end:].strip().partition("(")
    return _Instruction(name, said[:end], operation, rest, root)


def _closing(text: str) -> int:
    """The place of the bracket that closes what is open before `text`."""
    depth = 1
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return place
    return len(text)


def _kind(one: _Instruction) -> str | None:
    """The kind of a collective; what ends an asynchronous one is no other."""
    operation = one.operation.removesuffix("-start")
    return operation if operation in KINDS else None


def _whole(one: _Instruction, kind: str, devices: int) -> int:
    """Bytes of the arrays of a collective, see `Collective.bytes`."""
    shape = one.shape
    if one.operation in ("all-gather-start", "collective-permute-start"):
        shape = _parts(shape)[1]  # (what goes in, what comes out, …)
    return _bytes(shape) * (_group_size(one.rest, devices) if kind == "reduce-scatter" else 1)


def _is_scatter(fusion: str, computations: dict) -> bool:
    """Whether a fusion keeps a slice of what it sums over the devices."""
    if not fusion:
        return False
    roots = [one.operation for one in computations[fusion] if one.root]
    return "all-reduce-scatter" in fusion or roots == ["dynamic-slice"]


def _parts(shape: str) -> list[str]:
    """The elements of a tuple's type, whose own tuples stay whole."""
    parts, depth, begin = [], 0, 1
    for place, character in enumerate(shape):
        depth += (character in "([{") - (character in ")]}")
        if (character == "," and depth == 1) or (character == ")" and depth == 0):
            parts.append(shape[begin:place])
            begin = place + 1
    return parts


def _bytes(shape: str) -> int:
    """Of all arrays of a type such as ``(f32[8,128]{1,0}, s32[])``."""
    shape = re.sub(r"\{[^}]*\}|/\*.*?\*/", "", shape)  # without layouts
    total = 0
    for kind, sizes in _SHAPE.findall(shape):
        bits = _BITS.match(kind)
        each = int(bits[1]) if bits and bits[1] else 8
        total += math.ceil(each * math.prod(int(size) for size in sizes.split(",") if size) / 8)
    return total


def _group_size(rest: str, devices: int) -> int:
    """How many devices take part in one collective."""
    groups = re.search(r"replica_groups=(mesh\[([^\]]*)\] \{([^}]*)\}|\[(\d+),(\d+)\]|\{\{([\d,]+)\})", rest)
    if groups is None:
        return devices  # of a permutation, or of all devices
    if groups[2] is not None:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", groups[2]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", groups[3]))
    return int(groups[5]) if groups[5] else len(groups[6].split(","))


def _trips(loop: _Instruction, computations: dict) -> int | None:
    """How often a loop runs: as the text says, or from its counter: what it is compared with, and its step from 0."""
    if said := _TRIPS.search(loop.rest):
        return int(said[1])
    condition = computations.get(loop.called.get("condition", ""), [])
    for one in condition:
        if one.operation == "fusion":  # the comparison may be in a fusion of its own, its bound outside or inside
            condition = condition + computations.get(one.called.get("calls", ""), [])
    bounds = set(_constants(condition).values())
    compares = [one for one in condition if one.operation == "compare"]
    if len(bounds) != 1 or len(compares) != 1 or "direction=LT" not in compares[0].rest:
        return None
    places = {_place(one) for one in condition if one.operation == "get-tuple-element"}
    steps = _steps(computations.get(loop.called.get("body", ""), []), places.pop()) if len(places) == 1 else {1}
    return -(-bounds.pop() // max(steps)) if steps and min(steps) > 0 else None


def _constants(instructions: list[_Instruction]) -> dict[str, int]:
    """Whole numbers by name."""
    found = [one for one in instructions if one.operation == "constant" and one.shape[:5] in ("s32[]", "u32[]")]
    return {one.name: int(one.rest[: _closing(one.rest)]) for one in found}


def _place(one: _Instruction) -> str:
    return re.search(r"index=(\d+)", one.rest)[1]


def _steps(body: list[_Instruction], place: str) -> set[int]:
    """By what a loop's body adds to the element of its tuple at `place`; 1 where this cannot be seen."""
    root = [re.findall(r"%?([\w.\-]+)", re.sub(r"/\*.*?\*/", "", one.rest)) for one in body if one.root]
    added = {one.name: re.findall(r"%?([\w.\-]+)", one.rest)[:2] for one in body if one.operation == "add"}
    counted = {one.name for one in body if one.operation == "get-tuple-element" and _place(one) == place}
    numbers, last = _constants(body), root[0][int(place)] if root and len(root[0]) > int(place) else ""
    both = added.get(last, ())
    return {numbers[name] for name in both if name in numbers and counted & {*both}} or {1}
