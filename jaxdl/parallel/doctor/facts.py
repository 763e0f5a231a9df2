"""What `jaxdl doctor` knows of a machine: plain values, from which every finding follows."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU as its driver describes it.

    Attributes:
      name: such as ``NVIDIA H100 80GB HBM3``.
      capability: compute capability, such as 9.0; 0 where the driver does not say it.
      memory: bytes.
      free: bytes that no process has taken.
    """

    name: str
    capability: float
    memory: int
    free: int


@dataclasses.dataclass(frozen=True)
class Holder:
    """Another process that has an accelerator open.

    Attributes:
      pid: its number.
      command: the beginning of its command line.
      place: the file of the device, or ``GPU``.
    """

    pid: int
    command: str
    place: str


@dataclasses.dataclass(frozen=True)
class Device:
    """A device as JAX describes it.

    Attributes:
      platform: ``cpu``, ``gpu`` or ``tpu``.
      kind: such as ``TPU v5 lite``.
      memory: bytes that JAX may take; None where the device does not tell.
      used: bytes of them in use.
    """

    platform: str
    kind: str
    memory: int | None = None
    used: int | None = None


@dataclasses.dataclass(frozen=True)
class Speed:
    """What one device did in two seconds.

    Attributes:
      flops: FLOP/s of a matrix product, by dtype.
      bandwidth: bytes/s of ``a * x + y``.
    """

    flops: Mapping[str, float]
    bandwidth: float


@dataclasses.dataclass(frozen=True)
class Start:
    """How JAX started in a process of its own.

    Attributes:
      devices: that it found; empty where it did not start.
      error: the line that says why it did not.
      timed_out: whether it was ended because it took too long.
      speed: None where it was not measured.
    """

    devices: tuple[Device, ...] = ()
    error: str = ""
    timed_out: bool = False
    speed: Speed | None = None


@dataclasses.dataclass(frozen=True)
class Cache:
    """Where compiled programs are kept.

    Attributes:
      folder: its path.
      files: how many it holds.
      size: their bytes.
      writable: whether a file could be written there, or the folder be made.
      free: bytes left on its disk; None where that is unknown.
    """

    folder: str
    files: int = 0
    size: int = 0
    writable: bool = True
    free: int | None = None


@dataclasses.dataclass(frozen=True)
class Installed:
    """A jaxdl that this Python can find.

    Attributes:
      folder: that holds its code.
      version: of its metadata.
      imported: whether it is the one that runs.
    """

    folder: str
    version: str
    imported: bool


@dataclasses.dataclass(frozen=True)
class Facts:
    """All that the findings are made of.

    Attributes:
      python: its version.
      executable: the Python that runs.
      versions: of installed packages, by their normalised names.
      requirements: by the name of a package, what its metadata requires (lines such as ``jaxlib<=0.10.2,>=0.10.1``).
      environment: the variables that steer JAX.
      start: of JAX, as it is set up.
      start_on_cpu: of JAX with the CPU alone, tried where `start` failed; else None.
      cache: of compiled programs.
      installed: every jaxdl.
      cpu: the name of the processor.
      cores: that this process may use.
      memory: bytes of the host, or of the container's limit; None where unknown.
      free: of these, what is free.
      gpus: what the NVIDIA driver lists.
      driver: its version; empty where there is none.
      nvidia_files: device files of NVIDIA GPUs.
      tpu_chips: on this host's PCI bus.
      holders: other processes that hold an accelerator.
      tpu_lock_owner: the user who owns the lock file of libtpu; empty where there is no such file.
      user: who runs this.
    """

    python: str
    executable: str
    versions: Mapping[str, str]
    requirements: Mapping[str, tuple[str, ...]]
    environment: Mapping[str, str]
    start: Start
    cache: Cache
    installed: tuple[Installed, ...]
    start_on_cpu: Start | None = None
    cpu: str = ""
    cores: int = 1
    memory: int | None = None
    free: int | None = None
    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    nvidia_files: tuple[str, ...] = ()
    tpu_chips: int = 0
    holders: tuple[Holder, ...] = ()
    tpu_lock_owner: str = ""
    user: str = ""

    @property
    def platforms(self) -> tuple[str, ...]:
        """Those that JAX_PLATFORMS names; none where JAX chooses."""
        named = self.environment.get("JAX_PLATFORMS", "").split(",")
        return tuple(name.strip() for name in named if name.strip())

    @property
    def has_gpu(self) -> bool:
        """Whether an NVIDIA GPU is here, used or not."""
        return bool(self.gpus or self.nvidia_files)

    @property
    def cuda_plugin(self) -> str | None:
        """The installed package by which JAX uses NVIDIA GPUs, or None."""
        return next((name for name in ("jax-cuda13-plugin", "jax-cuda12-plugin") if name in self.versions), None)

    @property
    def found(self) -> frozenset[str]:
        """The platforms of the devices that JAX found."""
        return frozenset(device.platform for device in self.start.devices)
