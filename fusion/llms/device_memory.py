"""How much memory a device has left, and what a computation takes of it.

A container's limit (cgroup) counts like the machine's own memory: beyond it the kernel kills the process, and
no error is raised that could be caught.
"""

import resource
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def release_cached_memory() -> None:
    """Give back to the device what torch keeps of it for later."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_memory_bytes(device: torch.device) -> int:
    """The most held so far: of the device, or by this process where it is the CPU (Linux counts in KiB)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class DeviceMemory:
    """The memory of one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def free_bytes(self) -> int:
        """What this process may still take."""
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            cached = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
            return int(free + cached)
        return min(_available_bytes(), *_cgroup_rooms())

    def peak_bytes(self, work: Callable[[], object]) -> int:
        """The most that `work` holds at a time, above what is held already."""
        if self._device.type == "cuda":
            before = torch.cuda.memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            work()
            return int(torch.cuda.max_memory_allocated(self._device)) - before
        with _LiveTensors() as live:
            work()
        return live.peak_bytes


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, as long as they live.

    The resident set would not do: malloc hands out what earlier work has given back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = 0
        self._num_bytes = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inherited = {_place(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _place(leaf) not in inherited:
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, num_bytes = storage.data_ptr(), storage.nbytes()
        if place in self._known:
            return
        self._known.add(place)
        self._num_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self._num_bytes)
        weakref.finalize(storage, self._forget, place, num_bytes)

    def _forget(self, place: int, num_bytes: int) -> None:
        self._known.discard(place)
        self._num_bytes -= num_bytes


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(line for line in lines if line.startswith("MemAvailable:"))
    return int(available.split()[1]) << 10


def _cgroup_rooms(root: Path = _CGROUP_ROOT, *, membership: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Bytes left in every limited memory cgroup that holds this process, of either version."""
    rooms: list[int] = []
    for line in membership.read_text().splitlines() if membership.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        names = ("limit_in_bytes", "usage_in_bytes") if controllers else ("max", "current")
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):
            rooms += _room(group, limit=names[0], usage=names[1])
            if group == top:
                break
    return rooms


def _room(group: Path, *, limit: str, usage: str) -> list[int]:
    limit_file, usage_file = group / f"memory.{limit}", group / f"memory.{usage}"
    if not limit_file.is_file() or not usage_file.is_file():
        return []
    allowed = limit_file.read_text().strip()
    if allowed == "max":
        return []
    return [max(0, int(allowed) - int(usage_file.read_text()) + _reclaimable_bytes(group))]


def _reclaimable_bytes(group: Path) -> int:
    """Pages of files that were read once: the kernel gives them up before it kills anything."""
    stat = group / "memory.stat"
    lines = stat.read_text().splitlines() if stat.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.split()[0] == "inactive_file")
