"""``umbel load``: sends a load to a server, and says what it has found."""

import argparse
import dataclasses
import re
from typing import Any, Final

from umbel.load import Load, LoadConfig, LoadError

from . import load_plot
from .load_display import NOT_MEASURED, Screen, add_options, conclude
from .load_values import ramp, stage, values
from .loading import CommandError

USAGE, INTERRUPTED = 2, 130
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
    "marker": ("--marker", "TEXT", 'not Umbel: where the time is in what comes: \'"t":{time},"seq":{seq}\''),
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
    "metrics": ("--metrics", "URL", "the metrics of the server, as in http://127.0.0.1:8001/metrics"),
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
        usage="umbel load [options] target",
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
    credentials = command.add_mutually_exclusive_group()
    credentials.add_argument(
        "--tokens", metavar="FILE", help="credentials for the connections, one a line", **UNSET
    )
    credentials.add_argument(
        "--jwt-secret",
        metavar="FILE",
        help="sign a token for each connection with the secret of JWT(key=…), HS256",
        **UNSET,
    )
    command.add_argument(
        "--jwt-subject",
        metavar="TEXT",
        default="load-{n}",
        help="whom those tokens are for; {n} is the number of the connection (default: load-{n})",
    )
    command.add_argument(
        "--metrics-token", metavar="FILE", help="the file with the token of the metrics", **UNSET
    )
    add_options(command)
    command.add_argument(
        "--plot", metavar="FILE", help="draw connections, messages and latency (.svg, .png; umbel[plot])"
    )


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
        picture = load_plot.figure(parsed.plot) if parsed.plot else None
    except (ValueError, OSError) as error:
        raise CommandError(worded(error, parsed), USAGE) from error
    interrupted = False
    run.start()
    with Screen(run) as screen:
        while True:
            try:
                is_over = run.wait(0.2)
                screen.show()
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
        hints = "".join(hint for text, hint in HINTS.items() if re.search(text, str(error)))
        raise CommandError(f"{error}{hints}", INTERRUPTED if interrupted else NOT_MEASURED) from error
    code = conclude(results, parsed)
    if picture is not None:
        try:
            load_plot.plot(results, picture, parsed.plot)
        except OSError as error:
            raise CommandError(f"the picture can't be written: {error}", code or NOT_MEASURED) from error
    return INTERRUPTED if interrupted else code


def worded(error: ValueError | OSError, parsed: argparse.Namespace) -> str:
    """What is wrong, with the name of the option where it was one."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} can't be read: {error.strerror}"
    name, _, rest = str(error).partition(" ")
    return f"{OPTIONS[name][0]} {rest}" if name in OPTIONS and name in vars(parsed) else str(error)


def default_of(name: str) -> str:
    default = next(each.default for each in dataclasses.fields(LoadConfig) if each.name == name)
    return "" if default is None else f" (default: {default})"


HINTS: Final = {
    "its subscription is refused": ". Name a channel that clients of the application may read and publish "
    "to: --channel NAME (docs/load.md)",
    "invalid peer certificate": ". --ca FILE names the authority that has signed it",
    "InvalidContentType": ". A server without TLS has a target that begins with ws://",
    "closed by the server$": ". A server with TLS has a target that begins with wss://",
    "closed by the server with 4401": ". It wants other credentials: --tokens, --jwt-secret or --header",
    "did not open in time": ". A WebSocket server that is not Umbel needs --marker (docs/load.md)",
}

UNSET: Final[dict[str, Any]] = {"default": argparse.SUPPRESS}
