"""Variables are nested dicts, ``{collection: {stage: …}}``: how they are divided and put together."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import jax

Variables = dict[str, Any]
Path = tuple[str, ...]


def split_variables(variables: Variables, names: Sequence[str]) -> tuple[Variables, Variables]:
    """Divides ``{collection: {stage: …}}`` into the part of the stages `names` and the rest.

    Both parts keep every collection, so that either can be passed to `apply`.
    """
    parts = {collection: split_stages(tree, names) for collection, tree in variables.items()}
    return {c: inside for c, (inside, _) in parts.items()}, {c: outside for c, (_, outside) in parts.items()}


def split_stages(tree: Mapping[str, Any], names: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divides ``{stage: …}`` into the stages `names` and the others."""
    return {s: v for s, v in tree.items() if s in names}, {s: v for s, v in tree.items() if s not in names}


def join_variables(*parts: Variables) -> Variables:
    """The union of parts with disjoint leaves; undoes `split_variables` and `partition`. Raises ValueError."""
    return reduce(union, parts, {})


def walk_shapes(tree: Any) -> Iterator[tuple[str, Any]]:
    """``("params/stem/conv/kernel", leaf)`` for every leaf of a tree of variables, or of any other pytree."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def partition(tree: Any, chosen: Callable[[Path, Collection[str]], bool]) -> tuple[Any, Any]:
    """Divides nested dicts into the leaves that are `chosen` and the rest; neither holds empty dicts.

    Args:
      tree: nested dicts of leaves.
      chosen: asked for every leaf by its path and the names of all that stands beside it.
    """

    def divide(node: Any, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        inside, outside = {}, {}
        for name, value in node.items():
            if isinstance(value, dict):
                parts = divide(value, (*path, name))
            else:
                parts = (value, None) if chosen((*path, name), node) else (None, value)
            for target, part in zip((inside, outside), parts, strict=True):
                if part is not None and not (isinstance(part, dict) and not part):
                    target[name] = part
        return inside, outside

    return divide(tree, ())


def pick(tree: Any, like: Any) -> Any:
    """The part of nested dicts that `like` has, too."""
    return {name: pick(tree[name], part) if isinstance(part, dict) else tree[name] for name, part in like.items()}


def union(one: Any, other: Any, path: Path = ()) -> Any:
    """Nested dicts put together; undoes `partition`. Raises ValueError for a leaf that is in both."""
    joined = dict(one)
    for name, value in other.items():
        if name not in joined:
            joined[name] = value
        elif isinstance(value, dict) and isinstance(joined[name], dict):
            joined[name] = union(joined[name], value, (*path, name))
        else:
            raise ValueError(f"'{'/'.join((*path, name))}' is in more than one part")
    return joined


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by name, such as ``"params/stem/conv/kernel"``, as nested dicts; undoes `walk_shapes`."""
    nested: dict[str, Any] = {}
    for name, leaf in flat.items():
        *parts, last = name.split("/")
        node = nested
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = leaf
    return nested


def modules_of(tree: Any, path: Path = ()) -> set[Path]:
    """Paths of the modules that have leaves of their own in nested dicts."""
    found = {path} if any(not isinstance(value, dict) for value in tree.values()) else set()
    return found.union(*(modules_of(v, (*path, name)) for name, v in tree.items() if isinstance(v, dict)))
