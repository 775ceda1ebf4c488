"""``umbel load``: sends a load to a server, and says what it has found."""

import argparse
import dataclasses
import difflib
import json
import sys
import tomllib
from collections.abc import Iterator
from typing import Any, Final

from umbel._serving import stderr
from umbel.load import Latency, Load, LoadConfig, LoadError, LoadResults, Snapshot

from .loading import CommandError
from .requirements import Requirement

MISSED, USAGE, NOT_MEASURED, INTERRUPTED = 1, 2, 3, 130
"""Exit codes."""

OPTIONS: Final[dict[str, tuple[str, str, str]]] = {
    "target_connections": ("--connections", "N", "how many connections read or ask"),
    "publishers": ("--publishers", "N", "further connections that publish; 0: somebody else does"),
    "rate": ("--rate", "R", "publications per second, of all publishers together"),
    "seconds": ("--seconds", "S", "how long is measured"),
    "warm_up": ("--warm-up", "S", "from the first publication to the measurement"),
    "drain": ("--drain", "S", "how long what is on its way may take afterwards"),
    "channel": ("--channel", "NAME", "the channel that is published to and read"),
    "channels": ("--channels", "N", "how many channels: NAME-0, NAME-1 and so on"),
    "channels_per_connection": ("--channels-per-connection", "N", "channels of each connection"),
    "data_bytes": ("--data-bytes", "N", "bytes of the data of a publication or a request"),
    "message_type": ("--message-type", "TYPE", "request: the type of the message"),
    "in_flight": ("--in-flight", "N", "request: messages of each connection without an answer"),
    "marker": ("--marker", "TEXT", "not Umbel: where the time stands in what comes: '\"t\":{time},\"seq\":{seq}'"),
    "hello": ("--hello", "TEXT", "not Umbel: what each connection says first; {n} is its number"),
    "publish": ("--publish", "TEMPLATE", "not Umbel: what is published, with {time} {seq} {pad} {n}"),
    "slow": ("--slow", "N", "slow-readers: connections that read nothing"),
    "back_within": ("--back-within", "S", "storm, chaos: within which time connections come back"),
    "cuts": ("--cuts", "R", "chaos: how many readers are cut per second"),
    "sources": ("--sources", "N", "addresses of this machine that connections come from, 127.0.0.1 and on"),
    "check_every": ("--check-every", "N", "of so many connections one has each update parsed and checked"),
    "timeout": ("--timeout", "S", "how long connections may take to open, after the last was begun"),
    "ca": ("--ca", "FILE", "wss: certificates of authorities to trust instead of those of this machine"),
    "pid": ("--pid", "PID", "process of the server on this machine: its CPU and memory are measured"),
    "remote": ("--remote", "HOST", "the host of the target again, if it is not this machine"),
}
"""Options with a value: name, what its value is called, what it does."""

KINDS: Final = {"<class 'int'>": int, "<class 'float'>": float, "int | None": int}

FLAGS: Final = {
    "deflate": ("--deflate", "ask for compressed messages"),
    "echo": ("--echo", "request: the answer is the request itself"),
    "poll": ("--poll", "never sleep: takes a whole processor, and the server does not pay for waking it"),
    "hostile": ("--hostile", "allow storm, chaos and slow-readers against another machine"),
}

SCENARIOS: Final = {
    "fanout": "publishers publish, all others read it (the default)",
    "ramp": "connections are opened, and stay",
    "request": "each connection sends messages to a handler, one after the other's answer",
    "sse": "fanout over event streams",
    "storm": "fanout; all readers lose their connections at once and come back",
    "chaos": "fanout; random readers lose their connections and come back, again and again",
    "slow-readers": "fanout beside connections that read nothing",
}


def add_command(commands: Any) -> None:
    """Add the command."""
    scenarios = "\n".join(f"  {name:<13} {text}" for name, text in SCENARIOS.items())
    command = commands.add_parser(
        "load",
        help="send a load to a server and measure it",
        description="Open connections to a server, publish, and check and measure what arrives.\n"
        f"Ends by itself; Ctrl-C shows the results so far.\n\nscenarios:\n{scenarios}",
        epilog="Exit codes: 0 all requirements kept, 1 one missed, 2 wrong usage, "
        "3 not measured or cut short, 130 Ctrl-C.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "target", nargs="?", help="address of the server, as in ws://127.0.0.1:8000/ws", **UNSET
    )
    command.add_argument(
        "--config", metavar="FILE", help="a TOML file whose keys are the fields of umbel.load.LoadConfig"
    )
    command.add_argument("--scenario", choices=tuple(SCENARIOS), help="what connections do", **UNSET)
    command.add_argument(
        "--ramp", type=ramp, metavar="N/TIME", help="begin N connections each TIME (50/100ms)", **UNSET
    )
    command.add_argument(
        "--stage",
        type=stage,
        action="append",
        metavar="N/TIME",
        help="before that: open N connections and hold them for TIME (1000/30s); repeated",
        **UNSET,
    )
    kinds = {each.name: each.type for each in dataclasses.fields(LoadConfig)}
    for name, (flag, metavar, text) in OPTIONS.items():
        kind = KINDS.get(str(kinds[name]), str)
        command.add_argument(
            flag, dest=name, type=kind, metavar=metavar, help=text + default_of(name), **UNSET
        )
    for name, (flag, text) in FLAGS.items():
        command.add_argument(flag, dest=name, action="store_true", help=text, **UNSET)
    command.add_argument(
        "-v", "--verbose", action="store_true", help="show what is said (with --connections 1)", **UNSET
    )
    command.add_argument(
        "--header", action="append", metavar="'NAME: VALUE'", help="field of the header; repeated", **UNSET
    )
    command.add_argument(
        "--answer",
        action="append",
        metavar="PREFIX=TEXT",
        help="not Umbel: say TEXT when a message comes that begins with PREFIX; repeated",
        **UNSET,
    )
    command.add_argument(
        "--tokens", metavar="FILE", help="credentials for the connections, one a line", **UNSET
    )
    command.add_argument(
        "--require",
        action="append",
        default=[],
        type=requirement,
        metavar="TEXT",
        help="what has to be so, as in 'p95<100ms' or 'lost==0'; repeated",
    )
    command.add_argument("--json", action="store_true", help="write the results as JSON to standard output")


def load(parsed: argparse.Namespace) -> int:
    """Send a load.

    Raises:
        CommandError: if a value can't be used, or nothing could be measured.
    """
    try:
        given = values(parsed)
        if "target" not in given:
            raise CommandError("a load needs a target, as in: umbel load ws://127.0.0.1:8000/ws", USAGE)
        run = Load(LoadConfig(**given))
    except (ValueError, OSError) as error:
        raise CommandError(str(error), USAGE) from error
    interrupted = False
    shown = 0
    run.start()
    while True:
        try:
            is_over = run.wait(0.2)
            shown = show(run, shown)
            if is_over:
                break
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            run.stop()
    try:
        results = run.run()
    except LoadError as error:
        hints = [hint for text, hint in HINTS.items() if text in str(error)]
        raise CommandError(f"{error}{''.join(hints)}", INTERRUPTED if interrupted else NOT_MEASURED) from error
    missed = [each for each in parsed.require if not each.holds(results)]
    if parsed.json:
        write(json.dumps(results.to_json(), indent=2))
    else:
        write("\n".join(table(results)))
    for each in missed:
        say(f"missed: {each.text}, but {each.found(results)}")
    if interrupted:
        return INTERRUPTED
    if not results.complete:
        return NOT_MEASURED
    return MISSED if missed else 0


def write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def values(parsed: argparse.Namespace) -> dict[str, Any]:
    """The values of the configuration that were given."""
    given = vars(parsed)
    found = read(given["config"]) if given["config"] else {}
    found |= {name: given[name] for name in FIELDS if given.get(name) is not None}
    if "ramp" in given:
        found["ramp_up_rate"], found["ramp_up_delay"] = given["ramp"]
    if "stage" in given:
        found["stages"] = given["stage"]
    if "header" in given:
        found["headers"] = dict(field_of(text) for text in given["header"])
    if "answer" in given:
        found["answers"] = dict(answer_of(text) for text in given["answer"])
    if "tokens" in given:
        with open(given["tokens"], encoding="utf-8") as file:
            found["tokens"] = file.read().split()
    return found


def read(path: str) -> dict[str, Any]:
    """Read a file of values.

    Raises:
        ValueError: if it is not TOML, or has a key that means nothing.
        OSError: if it can't be read.
    """
    with open(path, "rb") as file:
        try:
            found = tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            msg = f"{path} is not TOML: {error}"
            raise ValueError(msg) from None
    for name in found:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            msg = f"{path} has a key that means nothing: {name}{hint}"
            raise ValueError(msg)
    return found


def show(run: Load, shown: int) -> int:
    """Write what was said, and a line for each second that was not shown yet."""
    for each in run.conversation():
        say(each)
    rows = run.snapshots()
    for row in rows[shown:]:
        say(line(row))
    return len(rows)


def line(row: Snapshot) -> str:
    parts = [f"{row.at:6.1f} s  {STAGES[row.stage]:<9} {row.open:>7,} open"]
    if row.connecting or row.failed:
        parts.append(f"{row.connecting:,} on their way, {row.failed:,} failed")
    if row.published or row.messages:
        parts.append(f"{row.published:,} published, {row.messages:,} messages in {row.frames:,} frames")
    if row.answers:
        parts.append(f"{row.answers:,} answers")
    if row.latency_p95 is not None:
        parts.append(f"p95 {row.latency_p95:.1f} ms")
    if row.lost:
        parts.append(f"{row.lost:,} lost")
    return ", ".join(parts)


def table(found: LoadResults) -> Iterator[str]:
    """The results, for reading."""

    def entry(name: str, text: str) -> str:
        return f"{name:<22} {text}"

    yield ""
    yield entry("target", f"{found.target}, {found.scenario}" + ("" if found.complete else " (cut short)"))
    failed = ", ".join(f"{count:,} {reason}" for reason, count in found.failures_by_reason.items())
    yield entry(
        "connections", f"{found.max_concurrent_connections:,} at once, {found.connection_failures:,} failed"
    )
    if failed:
        yield entry("", failed)
    yield from latency("to connect", found.connect)
    if found.published:
        late = f", up to {found.lateness.max:.1f} ms late" if found.lateness else ""
        sure = f", {found.confirmed:,} of them confirmed" if found.confirmed is not None else ""
        yield entry("published", f"{found.published:,}{sure}{late}")
    if found.messages:
        sign = "≥ " if found.is_busy else ""
        yield entry(
            "messages",
            f"{sign}{found.messages_per_second:,.0f}/s in {sign}{found.frames_per_second:,.0f} frames/s",
        )
        yield entry("bytes", f"{sign}{found.bytes_per_second:,.0f}/s")
    yield from latency("delivery", found.latency)
    yield from latency("answers", found.answer)
    yield from latency("cut to caught up", found.recovery)
    if found.answers:
        yield entry("answers", f"{found.answers_per_second:,.0f}/s")
    if found.success_rate is not None:
        yield entry("received of due", f"{found.success_rate:.4%}")
    yield entry("lost", f"{found.lost:,} in {found.gaps:,} gaps")
    yield entry("error rate", f"{found.error_rate:.4%}")
    for reason, count in found.faults.items():
        yield entry("fault", reason if count == 1 else f"{reason} ({count:,} times)")
    if found.server_cpu_percent is not None:
        each = (
            f", {found.server_cpu_us_per_message:.2f} µs per message"
            if found.server_cpu_us_per_message
            else ""
        )
        yield entry("server", f"{found.server_cpu_percent:.1f} % of a processor{each}")
    if found.server_bytes_per_connection is not None:
        yield entry("", f"{found.server_bytes_per_connection / 1024:.2f} KiB per connection")
    busy = ": it may be the limit, the server may do more" if found.is_busy else ""
    yield entry("this load", f"{found.load_cpu_percent:.0f} % of a processor{busy}")
    yield entry("took", f"{found.duration:.1f} s")


def latency(name: str, found: Latency | None) -> Iterator[str]:
    if found is not None:
        figures = {name: getattr(found, name) for name in ("mean", "p50", "p95", "p99", "max")}
        yield f"{name:<22} {', '.join(f'{each} {time:.1f}' for each, time in figures.items())} ms"


def ramp(text: str) -> tuple[int, float]:
    """Read ``50/100ms``."""
    number, _, time = text.partition("/")
    try:
        return int(number), seconds(time)
    except ValueError:
        msg = f"{text!r} is no pace: 50/100ms begins 50 connections each 100 ms"
        raise argparse.ArgumentTypeError(msg) from None


def stage(text: str) -> tuple[int, float]:
    """Read ``1000/30s``."""
    number, _, time = text.partition("/")
    try:
        return int(number), seconds(time)
    except ValueError:
        msg = f"{text!r} is no stage: 1000/30s holds 1,000 connections for 30 seconds"
        raise argparse.ArgumentTypeError(msg) from None


def seconds(text: str) -> float:
    """Read a time with its unit."""
    number, unit = (text[:-2], text[-2:]) if text.endswith("ms") else (text.removesuffix("s"), "s")
    return float(number) / (1000 if unit == "ms" else 1)


def requirement(text: str) -> Requirement:
    try:
        return Requirement.of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def field_of(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        msg = f"{text!r} is no field of a header: 'Name: value'"
        raise ValueError(msg)
    return name.strip(), value.strip()


def answer_of(text: str) -> tuple[str, str]:
    prefix, equals, answer = text.partition("=")
    if not equals or not prefix:
        msg = f"{text!r} is no answer: PREFIX=TEXT, as in 2=3"
        raise ValueError(msg)
    return prefix, answer


def default_of(name: str) -> str:
    default = next(each.default for each in dataclasses.fields(LoadConfig) if each.name == name)
    return "" if default is None else f" (default: {default})"


def say(text: str) -> None:
    stderr.handler().write(text)


FIELDS: Final = [each.name for each in dataclasses.fields(LoadConfig) if each.init]

HINTS: Final = {
    "its subscription is refused": ". Name a channel that clients of the application may read and publish to: "
    "--channel NAME (docs/load.md)",
    "invalid peer certificate": ". --ca FILE names the authority that has signed it",
}

UNSET: Final[dict[str, Any]] = {"default": argparse.SUPPRESS}

STAGES: Final = {
    "rampUp": "ramp up",
    "ready": "ready",
    "warmUp": "warm up",
    "measured": "measured",
    "drain": "drain",
    "rampDown": "ramp down",
    "done": "done",
}
