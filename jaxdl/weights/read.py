"""Files of weights, tensors by name. None of them may execute anything."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.errors import InputError
from jaxdl.weights.files import first_line, read_npz

TORCH = (".pth", ".pt", ".th", ".bin")
SUFFIXES = (".safetensors", *TORCH, ".npz")
# under which a training script keeps the weights of its checkpoint, in the order in which they are looked for
NESTED = ("model_ema", "state_dict_ema", "state_dict", "model", "model_state_dict", "net")


def read_weights(path: str | Path) -> Mapping[str, np.ndarray]:
    """Tensors by name; of a ``.safetensors`` file each is read when it is asked for.

    Args:
      path: a ``.safetensors``, ``.npz``, ``.pth``, ``.pt``, ``.th`` or ``.bin`` file. Of PyTorch's files the tensors
        alone are read, by its weights-only reader; it needs the extra ``[torch]``.

    Raises:
      InputError: if there is no such file, or it is damaged, of another kind, or holds code.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; expected a file of weights ({', '.join(SUFFIXES)})")
    if not path.is_file():
        raise InputError(f"there is no weight file '{path}'")
    if path.suffix not in SUFFIXES:
        raise InputError(f"'{path}' is no file of weights: its name must end in {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise InputError(f"the weight file '{path}' is empty: fetch it again")
    if path.suffix == ".npz":
        return read_npz_weights(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def read_npz_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors by name from an ``.npz`` file.

    Raises:
      InputError: if it cannot be read or holds Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no weight file '{path}'")
    return read_npz(path, "expected an .npz file of weights: fetch it again")


class _Safetensors(Mapping[str, np.ndarray]):
    """An open file; the operating system reads what is touched."""

    def __init__(self, path: Path):
        from safetensors import safe_open

        self.path = path
        self.file = safe_open(path, framework="numpy")
        self.names = tuple(self.file.keys())

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.file.get_tensor(name)


def _read_safetensors(path: Path) -> Mapping[str, np.ndarray]:
    try:
        return _Safetensors(path)
    except Exception as error:  # its own error is no class of Python's
        raise InputError(
            f"'{path}' cannot be read as a .safetensors file ({first_line(error)}): it is damaged, cut short, or of "
            "another kind. Fetch it again"
        ) from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"'{path}' is a file of PyTorch's, which needs torch to be read: pip install 'jaxdl[torch]', or convert "
            "the .safetensors file of the same weights"
        ) from error
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile and pickle raise many kinds
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise InputError(
                f"'{path}' holds more than tensors (it calls {code[1]}): reading it would run code, which is refused. "
                "Use a file of weights alone: a state_dict or .safetensors"
            ) from error
        raise InputError(
            f"'{path}' cannot be read as a file of PyTorch's ({first_line(error)}): it is damaged, cut short, or of "
            "another kind. Fetch it again"
        ) from error
    tensors = {name: tensor for name, tensor in _weights_in(held, path).items() if isinstance(tensor, torch.Tensor)}
    if not tensors:
        raise InputError(f"'{path}' holds no tensors by name; expected a state_dict")
    prefix = "module."  # DistributedDataParallel's
    if all(name.startswith(prefix) for name in tensors):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    whole = lambda t: t.float() if t.is_floating_point() else t  # numpy knows no bfloat16  # noqa: E731
    return {name: whole(tensor.detach()).numpy() for name, tensor in tensors.items()}


def _weights_in(held: Any, path: Path) -> Mapping[str, Any]:
    """The mapping of names to tensors in what a file holds."""
    if isinstance(held, Mapping):
        nested = next((held[key] for key in NESTED if isinstance(held.get(key), Mapping)), None)
        return held if nested is None else nested
    raise InputError(f"'{path}' holds a {type(held).__name__}; expected a state_dict: tensors by name")


def sha256_of(path: str | Path) -> str:
    """Of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(path: Path, sha256: str) -> None:
    """Raises InputError if the file's name gives the beginning of its sha256, as torchvision's do, and it differs."""
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if named and not sha256.startswith(named[1]):
        raise InputError(
            f"'{path}' is damaged or another file: its sha256 begins with {sha256[:8]}, its name says {named[1]}. "
            "Fetch it again"
        )
