"""Numbers of memory as the daemon sees them: each with its age, or with why it is not known. Absent is never 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._event import Number


class Unknown(LookupError):
    """A number that is not known; the text says why."""


class Reading:
    """The newest number of one series."""

    __slots__ = ("_name", "_value", "age_s", "source", "unknown")

    age_s: float
    """Seconds since it was taken."""
    source: str
    """"/proc/meminfo", "nvml", "trainer"."""
    unknown: str | None
    """Why there is no value; None: there is one."""

    def __init__(self, name: str, value: float | None, unknown: str, age_s: float, source: str) -> None:
        self._name = name
        self._value = value
        self.age_s = age_s
        self.source = source
        self.unknown = None if value is not None else unknown or "the daemon does not say why"

    @property
    def value(self) -> float:
        """The number, in the unit that the series' name has. Raises Unknown where there is none."""
        if self._value is None:
            raise Unknown(f"{self._name} is unknown: {self.unknown}")
        return self._value

    def __repr__(self) -> str:
        known = f"{self._value!r}" if self._value is not None else f"unknown: {self.unknown}"
        return f"Reading({self._name}: {known}, {self.age_s:.1f} s ago)"


class Memory(Mapping[str, Reading]):
    """Readings by the name of their series: `cx.memory["cgroup_working_set_bytes"].value`.

    Of several GPUs: `cx.memory.of_gpu("gpu_used_bytes", 1)`.
    """

    def __init__(self, numbers: list[Number]) -> None:
        self._host: dict[str, Reading] = {}
        self._gpus: dict[str, dict[int, Reading]] = {}
        for name, gpu, value, unknown, age_s, source in numbers:
            reading = Reading(name if gpu is None else f"{name} of GPU {gpu}", value, unknown, age_s, source)
            if gpu is None:
                self._host[name] = reading
            else:
                self._gpus.setdefault(name, {})[gpu] = reading

    def __getitem__(self, name: str) -> Reading:
        if name in self._host:
            return self._host[name]
        gpus = self._gpus.get(name, {})
        if len(gpus) == 1:
            return next(iter(gpus.values()))
        if gpus:
            which = ", ".join(map(str, sorted(gpus)))
            raise KeyError(f'{name} is there of the GPUs {which}: say which, memory.of_gpu("{name}", {min(gpus)})')
        raise KeyError(f"there is no {name!r}; there is: {', '.join(self) or 'nothing'}")

    def of_gpu(self, name: str, gpu: int) -> Reading:
        """The reading of this GPU, by its index. Raises KeyError where there is none."""
        there = self._gpus.get(name, {})
        if gpu not in there:
            which = ", ".join(map(str, sorted(there))) or "no GPU"
            raise KeyError(f"there is no {name!r} of GPU {gpu}; there is of: {which}")
        return there[gpu]

    def gpus(self, name: str) -> list[int]:
        """Of which GPUs there is a reading."""
        return sorted(self._gpus.get(name, {}))

    def __iter__(self) -> Iterator[str]:
        yield from self._host
        yield from (name for name in self._gpus if name not in self._host)

    def __len__(self) -> int:
        return len(self._host.keys() | self._gpus.keys())
