"""What this machine measures about itself, read from ``/proc`` many times a second.

One channel per source. A rate is taken over the last `WINDOW` seconds, so that many readings per second are
smooth although the kernel counts processor time in hundredths of a second.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

Numbers = dict[str, tuple[float, ...]]
"""Counters by the name of what they belong to: a core, an interface, a disk."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement, ready to be published.

    Attributes:
        key: of what it is the newest value, in a channel with ``mode="latest"``.
        data: the numbers.
    """

    key: str | None
    data: dict[str, Any]


class Rates:
    """Counters over the last `WINDOW` seconds."""

    def __init__(self) -> None:
        # Bound: readings older than the window leave, all but one.
        self._samples: deque[tuple[float, Numbers]] = deque()

    def changes(self, now: float, counters: Numbers) -> Numbers:
        """Return how much each counter rose per second since the oldest reading of the window.

        A counter that fell was reset (an interface came back); it counts from zero.
        """
        self._samples.append((now, counters))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW:
            self._samples.popleft()
        then, before = self._samples[0]
        seconds = now - then
        if seconds <= 0:
            return {}
        return {
            name: tuple(
                (new if new < old else new - old) / seconds
                for new, old in zip(values, before[name], strict=True)
            )
            for name, values in counters.items()
            if name in before
        }


@dataclass(slots=True)
class Source:
    """One file of ``/proc`` and the channel its readings go to.

    Attributes:
        channel: its name.
        mode: of the channel; with ``latest`` each reading has a key.
        file: below the root.
        read: makes readings of the file's text.
        rates: memory of the readings before.
    """

    channel: str
    mode: Literal["all", "latest"]
    file: str
    read: Callable[[str, Rates, float], list[Reading]]
    rates: Rates = field(default_factory=Rates)

    def sample(self, root: Path, now: float) -> list[Reading]:
        """Read the file; gives nothing where the system has none, or one of another form.

        Args:
            root: where the files are, usually ``/proc``.
            now: seconds of a clock that never goes back.
        """
        try:
            return self.read((root / self.file).read_text(), self.rates, now)
        except (OSError, ValueError, IndexError, KeyError):
            return []

    def missing(self, root: Path) -> str | None:
        """Say why there are no readings, if that is so."""
        try:
            (root / self.file).read_text()
        except OSError as error:
            return f"{root / self.file}: {error.strerror or error}"
        return None


def sources() -> list[Source]:
    """Make the sources of this machine."""
    return [
        Source("host:cpu", "latest", "stat", read_cpu),
        Source("host:memory", "all", "meminfo", read_memory),
        Source("host:network", "latest", "net/dev", read_network),
        Source("host:disk", "all", "diskstats", read_disk),
    ]


def read_cpu(text: str, rates: Rates, now: float) -> list[Reading]:
    """Return the busy part of each core, 0 to 1."""
    readings = []
    for name, (busy, total) in sorted(rates.changes(now, parse_stat(text)).items(), key=natural):
        if total > 0:
            readings.append(Reading(name, {"core": int(name[3:]), "busy": round(busy / total, 4)}))
    return readings


def read_memory(text: str, rates: Rates, now: float) -> list[Reading]:
    """Return memory in bytes: all of it, what is used, what caches hold, and swap."""
    memory = parse_meminfo(text)
    total, free = memory["MemTotal"], memory["MemFree"]
    available = memory.get("MemAvailable", free)
    return [
        Reading(
            None,
            {
                "total": total,
                "used": total - available,
                "cached": max(0, available - free),
                "swap": memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
            },
        )
    ]


def read_network(text: str, rates: Rates, now: float) -> list[Reading]:
    """Return bytes per second of each interface, received and sent."""
    return [
        Reading(name, {"interface": name, "received": round(received), "sent": round(sent)})
        for name, (received, sent) in rates.changes(now, busiest(parse_net_dev(text))).items()
    ]


def read_disk(text: str, rates: Rates, now: float) -> list[Reading]:
    """Return bytes per second of all disks, read and written, in one reading."""
    changes = rates.changes(now, busiest(parse_diskstats(text)))
    if not changes:
        return []
    disks = {name: [round(read), round(written)] for name, (read, written) in changes.items()}
    return [Reading(None, {"disks": disks})]


def parse_stat(text: str) -> Numbers:
    """Read ``/proc/stat``: busy and total time of each core, in ticks of the kernel.

    Waiting for a disk counts as idle. Time of guests is contained in user time already.
    """
    cores: Numbers = {}
    for line in text.splitlines():
        name, *rest = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [float(value) for value in rest[:8]]
            cores[name] = sum(ticks) - ticks[3] - ticks[4], sum(ticks)
    return cores


def parse_meminfo(text: str) -> dict[str, int]:
    """Read ``/proc/meminfo``, in bytes."""
    memory = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        number, *unit = rest.split()
        memory[name] = int(number) * (1024 if unit == ["kB"] else 1)
    return memory


def parse_net_dev(text: str) -> Numbers:
    """Read ``/proc/net/dev``: bytes received and sent by each interface since it exists."""
    interfaces: Numbers = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.rpartition(":")
        values = rest.split()
        interfaces[name.strip()] = float(values[0]), float(values[8])
    return interfaces


def parse_diskstats(text: str) -> Numbers:
    """Read ``/proc/diskstats``: bytes read from and written to each disk; parts of disks are left out."""
    disks: Numbers = {}
    for line in text.splitlines():
        values = line.split()
        if not NO_DISK.match(values[2]):
            disks[values[2]] = float(values[5]) * SECTOR, float(values[9]) * SECTOR
    return disks


def busiest(counters: Numbers) -> Numbers:
    """Keep the `MOST` that have moved most; those that never moved only if no other did."""
    active = {name: values for name, values in counters.items() if sum(values) > 0} or counters
    return dict(sorted(active.items(), key=lambda item: -sum(item[1]))[:MOST])


def natural(item: tuple[str, tuple[float, ...]]) -> tuple[str, int]:
    """Order ``cpu10`` after ``cpu9``."""
    name = item[0].rstrip("0123456789")
    return name, int(item[0][len(name) :] or 0)


WINDOW: Final = 0.5
"""Seconds over which rates are taken: 50 ticks of the kernel, so a processor's load is exact to 2 %."""

MOST: Final = 6
"""Interfaces or disks: what a plot can show. Machines with containers have hundreds of interfaces."""

SECTOR: Final = 512
"""Bytes; the unit of /proc/diskstats whatever the disk's own sectors are."""

NO_DISK: Final = re.compile(
    r"loop|ram|zram|sr|fd|dm-|md|(?:[hsv]|xv)d[a-z]+\d|(?:nvme\d+n\d+|mmcblk\d+)(?:p|boot)\d"
)
"""Names of block devices that are no disk of their own: partitions, and layers over other disks."""
