"""Files of weights, tensors by name. None of them may execute anything."""

import dataclasses
import hashlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.errors import InputError
from jaxdl.weights.files import check_regular, first_line, read_npz

TORCH = (".pth", ".pt", ".th", ".bin", ".ckpt", ".pth.tar")
SUFFIXES = (".safetensors", *TORCH, ".npz")
# what training scripts store beside the weights, by the names under which pickle looks for them
BESIDE = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    "builtins.dict",
    "builtins.list",
    "builtins.slice",
    "datetime.datetime",
    "datetime.timedelta",
    *(f"{module}.{kind}" for module in ("pathlib", "pathlib._local") for kind in ("Path", "PosixPath", "WindowsPath")),
    *(f"{core}.multiarray.{name}" for core in ("numpy.core", "numpy._core") for name in ("scalar", "_reconstruct")),
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.dtypes.{kind}DType" for kind in ("Bool", "Int32", "Int64", "UInt8", "UInt32", "Float32", "Float64")),
    *(f"numpy.{kind}" for kind in ("float64", "float32", "int64", "int32", "bool_", "bool")),
)
DICTS = (
    "collections.defaultdict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)


@dataclasses.dataclass(frozen=True, eq=False)
class WeightFile:
    """What a file of weights holds.

    Attributes:
      tensors: by name; the names of nested dicts are joined by dots, ``"state_dict.conv1.weight"``.
      beside: names of what is no weights and was left out: the optimizer's state, the options, the epoch.
    """

    tensors: Mapping[str, np.ndarray]
    beside: tuple[str, ...] = ()


class Inert:
    """Stands for an object of `BESIDE`: takes what pickle gives to it, and does nothing."""

    def __new__(cls, *arguments: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: Any):
        """Nothing is kept."""

    def __setstate__(self, state: Any) -> None:
        """Nothing is kept."""


class PlainDict:
    """Stands for a kind of dict of `DICTS`: what is made is a dict, of which torch lets pickle fill no other kind."""

    def __new__(cls, *arguments: Any) -> dict:
        return {}


def read_weights(path: str | Path) -> WeightFile:
    """Tensors by name; of a ``.safetensors`` file each is read when it is asked for.

    Args:
      path: a ``.safetensors``, ``.npz``, ``.pth``, ``.pt``, ``.th``, ``.bin``, ``.ckpt`` or ``.pth.tar`` file. Of
        PyTorch's files the tensors alone are read, by its weights-only reader; it needs the package torch.

    Raises:
      InputError: if there is no such file, or it is damaged, of another kind, or holds code.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; expected a file of weights ({', '.join(SUFFIXES)})")
    if not path.exists():
        raise InputError(f"there is no weight file or folder '{path}'")
    check_regular(path)
    suffix = next((known for known in SUFFIXES if path.name.endswith(known)), None)
    if suffix is None:
        raise InputError(f"'{path}' is no file of weights: its name must end in {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise InputError(f"the weight file '{path}' is empty: fetch it again")
    if suffix == ".npz":
        return WeightFile(read_npz_weights(path))
    return WeightFile(_read_safetensors(path)) if suffix == ".safetensors" else _read_torch(path)


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
        kind = self.file.get_slice(name).get_dtype()
        if kind.startswith(("F8", "F4", "F6_", "E8")):
            raise InputError(
                f"'{self.path}' holds '{name}' in {kind}: numbers of 8 bits or fewer, made for a program that knows "
                "their scales. Use the file of the same weights in float32, float16 or bfloat16"
            )
        try:
            return self.file.get_tensor(name)
        except Exception as error:  # of the library, for a type that numpy has not
            raise InputError(
                f"'{name}' of '{self.path}' cannot be read ({first_line(error)}); fetch it again"
            ) from error


def _read_safetensors(path: Path) -> Mapping[str, np.ndarray]:
    try:
        return _Safetensors(path)
    except Exception as error:  # its own error is no class of Python's
        raise InputError(
            f"'{path}' cannot be read as a .safetensors file ({first_line(error)}): it is damaged, cut short, or of "
            "another kind. Fetch it again"
        ) from error


def _read_torch(path: Path) -> WeightFile:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"'{path}' is a file of PyTorch's, which needs torch to be read: pip install torch, or convert the "
            ".safetensors file of the same weights"
        ) from error
    _check_no_program(path)
    try:
        inert = [*((Inert, name) for name in BESIDE), *((PlainDict, name) for name in DICTS)]
        with torch.serialization.safe_globals(inert):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile and pickle raise many kinds
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise InputError(
                f"'{path}' holds more than tensors (it calls {code[1]}): reading it would run code, which is refused. "
                "Use a file of weights alone: a state_dict or .safetensors. Whoever trusts the file writes one by: "
                "torch.save(torch.load('FILE', weights_only=False)['state_dict'], 'weights.pth'), or of a whole "
                "network .state_dict() in place of ['state_dict']"
            ) from error
        raise InputError(
            f"'{path}' cannot be read as a file of PyTorch's ({first_line(error)}): it is damaged, cut short, or of "
            "another kind. Fetch it again"
        ) from error
    if not isinstance(held, Mapping):
        raise InputError(f"'{path}' holds a {type(held).__name__}; expected a state_dict: tensors by name")
    tensors = dict(_flat(held, torch.Tensor))
    if not tensors:
        raise InputError(f"'{path}' holds no tensors by name; expected a state_dict")
    used = {name.partition(".")[0] for name in tensors}
    beside = tuple(str(key) for key in held if str(key).partition(".")[0] not in used)
    whole = lambda t: t.float() if t.is_floating_point() else t  # numpy knows no bfloat16  # noqa: E731
    return WeightFile({name: whole(t.detach().to_dense()).numpy() for name, t in tensors.items()}, beside)


def _check_no_program(path: Path) -> None:
    """Raises InputError for a TorchScript archive, whose weights only its own reader finds."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        script = any(name.rsplit("/", 1)[-1] == "constants.pkl" for name in archive.namelist())
    if script:
        raise InputError(
            f"'{path}' is a TorchScript program, not a file of weights. Where it may run, write its weights by: "
            f"python -c \"import torch; torch.save(torch.jit.load('{path}', 'cpu').state_dict(), 'weights.pth')\", "
            "then convert weights.pth"
        )


def _flat(held: Mapping[Any, Any], kind: type, before: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors in nested dicts, names joined by dots; not those under a number, as an optimizer has them."""
    for name, value in held.items():
        if isinstance(name, str) and isinstance(value, kind):
            yield before + name, value
        elif isinstance(name, str) and isinstance(value, Mapping) and not any(isinstance(k, int) for k in value):
            yield from _flat(value, kind, f"{before}{name}.")


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
