"""What a load has found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Self

from ._config import LoadConfig

VERSION: Final = 1
"""Of the JSON form. A field may be added without a new one."""

ACCOUNTED: Final = ("publications", "updates_delivered", "publications_lost")

LATENCIES: Final = ("connect", "lateness", "latency", "answer", "recovery")

TOO_MUCH: Final = "more came than this load has published: somebody else publishes there, too"

BUSY_PERCENT: Final = 85.0
"""A load that uses more of its processor may be what was measured."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    p999: float
    max: float

    @classmethod
    def of(cls, found: Mapping[str, float] | None) -> Self | None:
        """None when nothing was measured."""
        return (
            None
            if found is None
            else cls(count=int(found["count"]), **{k: v for k, v in found.items() if k != "count"})
        )


@dataclass(frozen=True)
class Snapshot:
    """One second of a load."""

    at: float
    """Seconds since it began."""
    stage: str
    """``rampUp``, ``ready``, ``warmUp``, ``measured``, ``drain``, ``rampDown`` or ``done``."""
    open: int
    connecting: int
    failed: int
    """Connections that could not be opened, so far."""
    published: int
    frames: int
    messages: int
    bytes: int
    answers: int
    lost: int
    latency_p50: float | None
    """Age of the oldest update of each frame, in milliseconds."""
    latency_p95: float | None
    latency_max: float | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Read what the core says."""
        return cls(**{snake(name): value for name, value in row.items()})


@dataclass(frozen=True)
class LoadResults:
    """What a load has found. Latencies are in milliseconds, and count from the moment at which a publication
    was due: what a busy load sends late counts as late.
    """

    version: int
    scenario: str
    target: str
    complete: bool
    """It ran to its end. If not, this is what was seen until then."""
    duration: float
    """Seconds of all of it."""
    window: float
    """Seconds that were measured."""
    max_concurrent_connections: int
    connection_attempts: int
    connection_failures: int
    failures_by_reason: Mapping[str, int]
    connect: Latency | None
    """From the beginning of a connection, as it was due, to ``connection_established``, or to the
    head of its event stream.
    """
    published: int
    """Publications of this load."""
    confirmed: int | None
    """Those that the server has answered with their position. None if it is not Umbel."""
    lateness: Latency | None
    """How late this load was when it published."""
    frames_per_second: float
    messages_per_second: float
    bytes_per_second: float
    messages: int
    """Updates that came, in all."""
    average_latency: float | None
    """Mean of `latency`."""
    latency: Latency | None
    """From the moment at which a publication was due to its arrival; of each update of one connection in
    ``check_every``.
    """
    due: int | None
    """Updates that had to come: each publication at each connection. None where that is not known."""
    success_rate: float | None
    """Updates that came, of those that were due. What a ``gap`` announces has not come."""
    lost: int
    """Publications that gaps have announced; of a server that is not Umbel, numbers that are missing."""
    gaps: int
    answers: int
    answers_per_second: float
    answer: Latency | None
    """From a request to its answer."""
    recovery: Latency | None
    """Of ``storm`` and ``chaos``: from the cut until a reader had all that it had missed."""
    tried: int
    """Connections, subscriptions, publications and requests."""
    error_rate: float
    """What failed of all that was tried."""
    faults: Mapping[str, int]
    """What must not happen, and how often it did: an update that is missing without a gap, comes twice or in
    a wrong order, a connection that ends, an error.
    """
    server_cpu_percent: float | None
    """Of one processor, with ``pid``."""
    server_cpu_us_per_message: float | None
    server_bytes_per_connection: float | None
    server_counters: Mapping[str, float]
    """What the server has counted meanwhile, with ``metrics``: each counter without its labels."""
    accounted_rate: float | None
    """Updates that the server has delivered or announced as lost, by its counters, of those that were due.
    None without ``metrics``, and where readers come back or read nothing.
    """
    slow_closed: int | None
    """Of ``slow-readers``: connections that read nothing and were closed by the server."""
    load_cpu_percent: float
    seconds: Sequence[Snapshot] = field(default=())
    """What happened in each second."""
    histograms: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    """The buckets of each latency, 1.6 % wide, by its name: number and count."""

    @property
    def is_busy(self) -> bool:
        """The load itself has used so much of its processor that a rate may be what it can do, not what the
        server can.
        """
        return self.load_cpu_percent > BUSY_PERCENT

    def to_json(self) -> dict[str, Any]:
        """The same with names in camel case, for ``json.dumps``."""
        return {camel(name): plain(value) for name, value in asdict(self).items()}

    @classmethod
    def of_json(cls, found: Any) -> Self:
        """Read what `to_json` has made.

        Raises:
            ValueError: if it is something else, or of another version.
        """
        try:
            version = found["version"]
            values = {each.name: found[camel(each.name)] for each in fields(cls)}
            values |= {name: Latency.of(values[name]) for name in LATENCIES}
            values["seconds"] = tuple(Snapshot.of(row) for row in values["seconds"])
        except (KeyError, TypeError, AttributeError):
            msg = "it has no results of a load"
            raise ValueError(msg) from None
        if version != VERSION:
            msg = f"its results have the version {version}, and only {VERSION} can be read"
            raise ValueError(msg)
        return cls(**values)


def results(
    config: LoadConfig,
    said: Mapping[str, Any],
    rows: Sequence[Snapshot],
    grown: int | None,
    counters: Mapping[str, float],
) -> LoadResults:
    """Put the words of the core into those of a user.

    Args:
        config: what was asked for.
        said: what the core has measured.
        rows: one for each second.
        grown: bytes by which the server has grown while the connections were opened.
        counters: what the server has counted.
    """
    total, window = said["total"], float(said["window_seconds"])
    returns = said["returns"] or {}
    failures = Counter(said["connection_failures"])
    failures.update(returns.get("failed"))  # attempts to come back
    failed = sum(failures.values())
    histograms = said["histograms"]
    tried = said["attempts"] + total["subscribes"] + total["published"] + total["asked"]
    latency = Latency.of(said["latency_ms"]) or Latency.of(said["latency_oldest_ms"])
    due = total["published"] * config.target_connections * config.channels_per_connection // config.channels
    is_known = due > 0 and not config.deflate and said["complete"]
    faults = dict(said["faults"])
    if is_known and total["messages"] > due:
        is_known = False
        faults = faults or {TOO_MUCH: 1}
    cpu = said["server_cpu_percent"]
    return LoadResults(
        version=VERSION,
        scenario=config.scenario,
        target=config.target,
        complete=said["complete"],
        duration=round(said["duration"], 3),
        window=round(window, 3),
        max_concurrent_connections=said["most_live"],
        connection_attempts=said["attempts"],
        connection_failures=failed,
        failures_by_reason=dict(failures),
        connect=Latency.of(said["established_ms"] or said["connect_ms"]),
        published=total["published"],
        confirmed=total["published_answers"] if config.marker is None else None,
        lateness=Latency.of(said["lateness_ms"]),
        frames_per_second=said["frames_per_second"],
        messages_per_second=said["messages_per_second"],
        bytes_per_second=round(said["bytes"] / window, 1) if window else 0.0,
        messages=total["messages"],
        average_latency=latency.mean if latency else None,
        latency=latency,
        due=due if is_known else None,
        success_rate=total["messages"] / due if is_known else None,
        lost=total["lost"],
        gaps=total["gaps"],
        answers=total["answers"],
        answers_per_second=said["answers_per_second"],
        answer=Latency.of(said["answer_ms"]),
        recovery=Latency.of(returns.get("caught_up_ms")),
        tried=tried,
        error_rate=min(1.0, (failed + total["errors"]) / tried) if tried else 0.0,
        faults=faults,
        server_cpu_percent=cpu,
        server_cpu_us_per_message=round(cpu * 1e4 * window / said["messages"], 3)
        if cpu and said["messages"]
        else None,
        server_bytes_per_connection=round(grown / said["most_live"], 1)
        if grown and said["most_live"]
        else None,
        server_counters=counters,
        accounted_rate=accounted(config, counters) if said["complete"] else None,
        slow_closed=config.slow - said["slow_open"] if config.scenario == "slow-readers" else None,
        load_cpu_percent=said["load_cpu_percent"],
        seconds=tuple(rows),
        histograms={
            "connect": histograms["connect"],
            "lateness": histograms["lateness"],
            "latency": histograms["latency"] or histograms["latency_oldest"],
            "answer": histograms["answer"],
            "recovery": histograms["caught_up"],
        },
    )


def accounted(config: LoadConfig, counters: Mapping[str, float]) -> float | None:
    published, delivered, lost = (counters.get(f"umbel_{name}_total", 0.0) for name in ACCOUNTED)
    readers = config.target_connections * config.channels_per_connection / config.channels
    is_known = config.scenario in {"fanout", "sse"} and published * readers > 0
    return (delivered + lost) / (published * readers) if is_known else None


def snake(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name)


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(each.title() for each in rest)


def plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        # Reasons and names of histograms are no names of fields; those of rows and latencies are.
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [
            plain({camel(k): v for k, v in each.items()} if isinstance(each, Mapping) else each)
            for each in value
        ]
    return value
