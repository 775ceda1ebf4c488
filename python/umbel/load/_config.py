"""What a load does."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from ._kinds import fits, words
from ._target import Target

Scenario = Literal["fanout", "ramp", "request", "sse", "storm", "chaos", "slow-readers"]
"""What the connections do:

- ``fanout``: publishers publish, and all others read it;
- ``ramp``: they are opened, read nothing, and stay for the time of the measurement;
- ``request``: each sends messages to a handler, and the next one when the answer is there;
- ``sse``: as ``fanout``, over event streams;
- ``storm``: as ``fanout``; at the beginning of the measurement all readers lose their connections, and come
  back to their sessions;
- ``chaos``: as ``fanout``; during the measurement random readers are cut again and again, and come back to
  their sessions;
- ``slow-readers``: as ``fanout``, beside ``slow`` further connections that subscribe and then read nothing.
"""


@dataclass(frozen=True, kw_only=True)
class LoadConfig:
    """A load. Times are in seconds.

    Raises:
        ValueError: if a value can't be used, or the target is not allowed; the message says what to do.
    """

    target: str
    """The address of the server: ``ws://host:port/path``, or ``wss://`` with TLS."""
    scenario: Scenario = "fanout"
    target_connections: int = 100
    """How many connections read or ask."""
    ramp_up_rate: int = 50
    """How many connections are begun together, whether or not the earlier ones are open."""
    ramp_up_delay: float = 0.1
    """How long after that the next ones are begun. With 0 all are begun at once."""
    stages: Sequence[tuple[int, float]] = ()
    """Before all connections are there: numbers of connections, and how long each of them is held."""
    publishers: int = 1
    """Further connections that publish. With 0 somebody else does."""
    rate: float = 10.0
    """Publications per second of all publishers together, whatever comes back."""
    warm_up: float = 1.0
    """From the first publication to the measurement."""
    seconds: float = 10.0
    """How long is measured. Of ``storm``: how long the last one may take to catch up."""
    drain: float = 5.0
    """How long what is still on its way may take afterwards."""
    ramp_down: bool = True
    """End the connections as they were begun, and not all at once."""
    channel: str = "load"
    """The channel that is published to and read. Of several, ``load-0``, ``load-1`` and so on."""
    channels: int = 1
    channels_per_connection: int = 1
    data_bytes: int = 128
    """Bytes of the JSON data of a publication or a request, or of all that ``publish`` says."""
    message_type: str = "ask"
    """The type of a request. Its handler gets ``{"n": number, "text": text}`` and has to answer with ``n`` +
    1 and the same text; with ``echo`` the answer is the request itself.
    """
    echo: bool = False
    in_flight: int = 1
    """Requests of each connection that may be without an answer."""
    marker: str | None = None
    """Of a server that is not Umbel: where the time and the number of a publication stand in what readers
    get, as in ``"t":{time},"seq":{seq}``. Without ``{seq}`` order and loss are not judged.
    """
    hello: str | None = None
    """What each connection says first there. ``{n}`` is its number."""
    publish: str | None = None
    """What a publisher says there, with ``{time}``, ``{seq}`` and ``{n}``; ``{pad}`` fills it up to
    ``data_bytes``. Without it, the load only reads.
    """
    answers: Mapping[str, str] = field(default_factory=dict)
    """How messages begin that are to be answered there, and what with."""
    slow: int = 10
    """Connections that read nothing, of ``slow-readers``."""
    back_within: float = 1.0
    """Of ``storm`` and ``chaos``: who is cut tries for the first time at a random moment within this time."""
    cuts: float = 10.0
    """Of ``chaos``: how many readers are cut in each second."""
    deflate: bool = False
    """Ask for compressed messages."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further fields of the header of each connection."""
    tokens: Sequence[str] = field(default=(), repr=False)
    """Credentials, one for each connection, sent as ``Authorization: Bearer``."""
    ca: str | None = None
    """A file with the certificates of the authorities that may have signed the one of a server with TLS, as
    PEM; by default those of this machine.
    """
    sources: int = 1
    """Addresses of this machine that the connections come from, from 127.0.0.1 on. One has about 28,000
    ports for one server.
    """
    check_every: int = 100
    """Of so many connections, one has each update parsed and checked. Of the others only both ends of each
    frame are looked at.
    """
    poll: bool = False
    """Never sleep. The load takes a whole processor, and the server on the same machine does not pay for
    waking it.
    """
    verbose: bool = False
    """Show what the connection, there may be one, and the server say to each other: `Load.conversation`."""
    timeout: float = 30.0
    """How long the connections may take to open, after the last was begun."""
    pid: int | None = None
    """The process of the server, if it runs on this machine: its CPU time and memory are measured. Linux
    only.
    """
    metrics: str | None = None
    """The address of the metrics of the server, as in ``http://127.0.0.1:8001/metrics``: they are read before
    and after. In the meantime nobody else should use the server.
    """
    metrics_token: str | None = field(default=None, repr=False)
    """What the metrics ask for, sent as ``Authorization: Bearer``."""
    remote: str | None = None
    """The host of the target again, if it is another machine. A load is not sent to a stranger by mistake."""
    hostile: bool = False
    """Allow ``storm``, ``chaos`` and ``slow-readers`` against another machine."""

    _aimed: Target = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.init and not fits(value := getattr(self, each.name), each.type):
                shown = repr(value) if each.repr else "this"
                msg = f"{each.name} is {words(each.type)}; not {shown}"
                raise ValueError(msg)
        for name, least in LEAST.items():
            if not (value := getattr(self, name)) >= least:
                msg = f"{name} is a number of at least {least}; not {value!r}"
                raise ValueError(msg)
        numbers = [number for number, _ in self.stages]
        if numbers != sorted(numbers) or not all(
            0 < number <= self.target_connections and held >= 0 for number, held in self.stages
        ):
            limit = f"up to target_connections, {self.target_connections}"
            msg = f"stages grow {limit}, and last for 0 seconds or more; not {self.stages!r}"
            raise ValueError(msg)
        if self.channels_per_connection > self.channels:
            msg = f"channels_per_connection is at most channels, {self.channels}"
            raise ValueError(msg)
        if self.pid is not None and Path("/proc/self").exists() and not Path(f"/proc/{self.pid}").exists():
            msg = f"pid is the process of the server on this machine; there is no process {self.pid}"
            raise ValueError(msg)
        if self.scenario in RETURNING and self.deflate:
            msg = f"{self.scenario} follows every position, so it can't be combined with deflate"
            raise ValueError(msg)
        if self.tokens and len(self.tokens) < self.target_connections:
            msg = f"{self.target_connections} connections need as many tokens; there are {len(self.tokens)}"
            raise ValueError(msg)
        if self.metrics is not None and not self.metrics.startswith(("http://", "https://")):
            msg = f"metrics are at an address as http://127.0.0.1:8001/metrics; not {self.metrics!r}"
            raise ValueError(msg)
        if self.metrics_token is not None and self.metrics is None:
            msg = "metrics_token is for the metrics, whose address is missing"
            raise ValueError(msg)
        if self.verbose and self.target_connections > 1:
            msg = "verbose shows what one connection and the server say: target_connections is 1 then"
            raise ValueError(msg)
        self._check_elsewhere()
        aimed = Target.of(self.target)
        aimed.check_allowed(self.remote, hostile=self.hostile, scenario=self.scenario)
        object.__setattr__(self, "_aimed", aimed)  # it is not looked up again: the answer could be another

    def _check_elsewhere(self) -> None:
        if self.marker is None and (self.hello or self.publish or self.answers):
            msg = "hello, publish and answers are for a server that is not Umbel; its marker is missing"
            raise ValueError(msg)
        if self.marker is not None and self.scenario not in {"fanout", "ramp", "slow-readers"}:
            msg = f"{self.scenario} needs Umbel: a server with a marker is another one"
            raise ValueError(msg)
        if self.marker is not None and self.publish is not None:
            missing = [
                each for each in ("{time}", "{seq}") if each in self.marker and each not in self.publish
            ]
            if missing:
                msg = f"the marker can never come: publish lacks {' and '.join(missing)}"
                raise ValueError(msg)
        if self.marker is not None and self.channels > 1:
            msg = "channels are those of Umbel: what readers of a server with a marker get, hello says"
            raise ValueError(msg)

    def core(self) -> dict[str, Any]:
        """What the core is given."""
        aimed = self._aimed
        reads = self.scenario not in {"ramp", "request"}
        is_silent = self.marker is not None and self.publish is None
        publishes = reads and self.publishers > 0 and self.rate > 0 and not is_silent
        return {
            "kind": {"request": "request", **dict.fromkeys(RETURNING, "resume")}.get(self.scenario, "read"),
            "address": aimed.address,
            "host": aimed.host,
            "server_name": aimed.name if aimed.is_secure else None,
            "authorities": self.ca or authorities(),
            "path": aimed.path,
            "headers": [f"{name}: {value}" for name, value in self.headers.items()],
            "tokens": list(self.tokens),
            "sources": self.sources,
            "connections": self.target_connections,
            "concurrency": UNBOUNDED,
            "ramp_up_rate": self.ramp_up_rate,
            "ramp_up_delay": self.ramp_up_delay,
            "stages": [list(stage) for stage in self.stages],
            "deflate": self.deflate,
            "subscribe": reads,
            "streams": self.scenario == "sse",
            "channel": self.channel,
            "channels": self.channels,
            "per_connection": self.channels_per_connection,
            "within": self.back_within,
            "cut_rate": self.cuts if self.scenario == "chaos" else 0.0,
            "slow": self.slow if self.scenario == "slow-readers" else 0,
            "sample_every": self.check_every,
            "warmup": self.warm_up,
            "seconds": self.seconds,
            "drain": self.drain,
            "ramp_down": self.ramp_down,
            "poll": self.poll,
            "verbose": self.verbose,
            "server_pid": self.pid,
            "publishers": self.publishers if publishes else 0,
            "publish_rate": self.rate if publishes else 0.0,
            "in_flight": self.in_flight if self.scenario == "request" else 0,
            "message_type": self.message_type,
            "echo": self.echo,
            "data_bytes": self.data_bytes,
            "marker": self.marker,
            "hello": self.hello,
            "publication": self.publish,
            "answers": list(self.answers.items()),
            "timeout": self.timeout,
        }


def authorities() -> str:
    """The file with the authorities that this machine trusts."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.openssl_cafile


LEAST: Final = {
    "target_connections": 1,
    "ramp_up_rate": 1,
    "ramp_up_delay": 0,
    "publishers": 0,
    "rate": 0,
    "warm_up": 0,
    "seconds": 0,
    "drain": 0,
    "channels": 1,
    "channels_per_connection": 1,
    "data_bytes": 1,
    "in_flight": 1,
    "slow": 0,
    "back_within": 0,
    "cuts": 0.001,
    "sources": 1,
    "check_every": 1,
    "timeout": 0,
}
"""The least of each number."""

RETURNING: Final = ("storm", "chaos")
"""Scenarios whose readers come back."""

UNBOUNDED: Final = 2**31
"""Connections on their way: an open loop begins the next ones all the same."""
