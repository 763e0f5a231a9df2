"""Other libraries' weight files into jaxdl's variables, by a table of names."""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl.errors import InputError
from jaxdl.models.staged import Staged, Variables, init_variables, walk_shapes

# a row of a key table: pattern of a tensor's name, name of the leaf it becomes, and what is done to it;
# None for the leaf means that the tensor is left out
Row = tuple[str, str | None, Callable[[np.ndarray], np.ndarray] | None]


def oihw_to_hwio(kernel: np.ndarray) -> np.ndarray:
    """A PyTorch convolution kernel ``[out, in, height, width]`` as Flax has it."""
    return kernel.transpose(2, 3, 1, 0)


def transpose(kernel: np.ndarray) -> np.ndarray:
    """A PyTorch linear kernel ``[out, in]`` as Flax has it."""
    return kernel.T


def batch_norm(theirs: str, ours: str) -> tuple[Row, ...]:
    """The rows of a PyTorch batch normalisation."""
    return (
        (rf"{theirs}\.weight", f"params/{ours}/scale", None),
        (rf"{theirs}\.bias", f"params/{ours}/bias", None),
        (rf"{theirs}\.running_mean", f"batch_stats/{ours}/mean", None),
        (rf"{theirs}\.running_var", f"batch_stats/{ours}/var", None),
        (rf"{theirs}\.num_batches_tracked", None, None),
    )


def read_npz_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors by name from an ``.npz`` file.

    Raises:
      InputError: if it cannot be read or holds Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no weight file '{path}'")
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with file:
            return {name: file[name] for name in file.files}
    # numpy, zipfile and zlib have many ways to say that a file is damaged
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError, MemoryError) as error:
        raise InputError(f"'{path}' cannot be read as an .npz file of weights ({error})") from error


def sha256_of(path: str | Path) -> str:
    """Of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def apply_table(
    tensors: Mapping[str, np.ndarray], table: Sequence[Row], model: Staged, input_shape: Sequence[int]
) -> Variables:
    """Variables of `model` from another library's tensors.

    Complete on both sides: every tensor matches a row, every leaf of the model is filled once.

    Args:
      tensors: by their own names.
      table: rows are tried in order; the pattern must match the whole name, and groups in it may be used in the leaf's.
      model: for which variables are made.
      input_shape: of its input.

    Raises:
      InputError: listing all that does not match.
    """
    like = jax.eval_shape(lambda k: init_variables(model, k, input_shape), jax.random.key(0))
    want = dict(walk_shapes(like))
    problems: list[str] = []
    filled: dict[str, Any] = {}
    for name, tensor in tensors.items():
        row = next((r for r in table if re.fullmatch(r[0], name)), None)
        if row is None:
            problems.append(f"{name} {tensor.shape}: no row of the table takes it")
            continue
        pattern, leaf, change = row
        if leaf is None:
            continue
        leaf = _renumber(re.fullmatch(pattern, name).expand(leaf))
        try:
            changed = tensor if change is None else change(tensor)
        except ValueError:  # it has not the number of axes that is to be transposed
            problems.append(f"{name} {tensor.shape}: cannot become {leaf}")
            continue
        if leaf not in want:
            problems.append(f"{name}: would become {leaf}, which the model has not")
        elif leaf in filled:
            problems.append(f"{name}: {leaf} is filled already")
        elif changed.shape != want[leaf].shape:
            problems.append(f"{name}: becomes {leaf} of shape {changed.shape}, the model's has {want[leaf].shape}")
        else:
            filled[leaf] = np.ascontiguousarray(changed, dtype=np.float32)
    problems += [f"{leaf} {want[leaf].shape}: no tensor fills it" for leaf in sorted(want.keys() - filled.keys())]
    if problems:
        raise InputError(f"the weights do not fit the model ({len(problems)} mismatches):\n  " + "\n  ".join(problems))
    return jax.tree.unflatten(jax.tree.structure(like), [filled[name] for name, _ in walk_shapes(like)])


def _renumber(leaf: str) -> str:
    """``block{0}`` to ``block1``: the others count from 0, stages and blocks here from 1."""
    return re.sub(r"\{(\d+)\}", lambda m: str(int(m[1]) + 1), leaf)
