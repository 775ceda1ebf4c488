#!/usr/bin/env python3
"""Run the Autobahn|Testsuite against a WebSocket echo server and compare the verdicts with expected.json.

    python tests/conformance/run.py --server "python examples/echo.py --host 127.0.0.1 --port {port}"
    python tests/conformance/run.py --url ws://127.0.0.1:9001 --cases "1.*,7.*"
    python tests/conformance/run.py --core --server "…"        about 20 s
    python tests/conformance/run.py --install                  only install the suite

The suite is installed on first use, from requirements.txt, into build/conformance/. It is Python 2 code, so
it needs a Python 2.7 interpreter: $PYTHON27, python2.7 on the PATH, or one that pyenv keeps. The cases are
dealt out to as many fuzzing clients as --jobs says.

Exit status: 0 when every verdict is the expected one, 1 when one is not (or the server died, or did not end
with status 0), 2 when the suite could not be run at all.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import fnmatch
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "conformance"
REPORTS = HERE / "reports"

# Every case of the short chapters; of the long ones (limits, compression) a few of each kind.
CORE = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
CORE += ["9.1.3", "9.2.3", "9.3.1", "9.3.5", "9.4.1", "9.4.5", "9.5.3", "9.6.3", "9.7.1", "9.8.1"]
CORE += [f"12.{group}.{case}" for group in range(1, 6) for case in (1, 3)]
CORE += [f"13.{group}.{case}" for group in range(1, 8) for case in (1, 3)]

# Verdicts that no expectation can excuse.
REFUSED = {"FAILED", "NON-STRICT", "UNIMPLEMENTED", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT", "MISSING"}

READY_SECONDS = 30.0
STOP_SECONDS = 30.0


class CannotRun(Exception):
    """The suite could not be run: nothing is known about the server."""


def main() -> int:
    options = parse_arguments()
    try:
        site = install_suite()
        if options.install:
            return 0
        cases = select_cases(all_cases(site), options)
        if options.list:
            print("\n".join(cases))
            return 0
        with contextlib.ExitStack() as stack:
            server = None
            url = options.url
            if options.server:
                url = url or f"ws://127.0.0.1:{free_port()}"
                server = stack.enter_context(running(options.server, url))
            if not url:
                raise CannotRun("give --url, or --server with a {port} in it")
            wait_until_ready(url, server)
            began = time.monotonic()
            verdicts = run_cases(site, cases, url, options.jobs)
            seconds = time.monotonic() - began
            died = server is not None and server.poll() is not None
    except CannotRun as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    good = report(verdicts, json.loads(options.expected.read_text()), seconds)
    if died:
        print("FAIL  the server ended during the run")
    elif server is not None and server.returncode != 0:
        print(f"FAIL  the server ended with status {server.returncode} after SIGTERM")
    return 0 if good and not died and (server is None or server.returncode == 0) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="where the echo server listens (default: a free port for --server)")
    parser.add_argument("--server", help="command that starts the echo server; {port} is replaced")
    parser.add_argument(
        "--cases", default="*", help="patterns with commas between, such as 1.*,7.1.5 (default: all)"
    )
    parser.add_argument("--core", action="store_true", help="the short selection")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="fuzzing clients at a time")
    parser.add_argument("--expected", type=pathlib.Path, default=HERE / "expected.json")
    parser.add_argument("--install", action="store_true", help="install the suite and stop")
    parser.add_argument("--list", action="store_true", help="print the ids of the selected cases and stop")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------ the suite


def install_suite() -> pathlib.Path:
    """Install requirements.txt below build/ unless that very list is there already; return the directory."""
    requirements = HERE / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes() + (HERE / "constraints.txt").read_bytes()).hexdigest()[
        :16
    ]
    site = BUILD / f"site-{digest}"
    if (site / ".complete").exists():
        return site
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    print(f"installing the suite into {site.relative_to(ROOT)} (once, about a minute)", flush=True)
    command = [
        python27(),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-warn-script-location",
    ]
    command += ["--no-deps", "--require-hashes", "--target", str(site), "--requirement", str(requirements)]
    environment = dict(os.environ, PIP_CONSTRAINT=str(HERE / "constraints.txt"), PYTHONWARNINGS="ignore")
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise CannotRun(f"the suite could not be installed:\n{done.stdout}")
    (site / ".complete").touch()
    return site


def python27() -> str:
    """Find a CPython 2.7 that has pip."""
    candidates = [os.environ.get("PYTHON27"), shutil.which("python2.7")]
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    candidates += [str(path) for path in sorted(pyenv.glob("versions/2.7*/bin/python2.7"), reverse=True)]
    for candidate in filter(None, candidates):
        probe = [candidate, "-c", "import sys, pip; sys.exit(sys.version_info[:2] != (2, 7))"]
        if subprocess.run(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            return candidate
    raise CannotRun(
        "no Python 2.7 with pip found. The suite is Python 2 code: install one (`pyenv install 2.7.18`) "
        "or name it in the environment variable PYTHON27"
    )


def all_cases(site: pathlib.Path) -> list[str]:
    command = [python27(), "-W", "ignore", str(HERE / "fuzzing_client.py"), str(site), "--list"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotRun(f"the suite does not start:\n{done.stderr}")
    return list(json.loads(done.stdout))


def select_cases(known: list[str], options: argparse.Namespace) -> list[str]:
    patterns = CORE if options.core else [pattern.strip() for pattern in options.cases.split(",")]
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise CannotRun(f"no case is called {pattern}")
    return [case for case in known if any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns)]


def cost(case: str) -> float:
    """Seconds that a case takes, roughly; only used to deal the cases out evenly."""
    chapter, _, rest = case.partition(".")
    if chapter in ("12", "13"):  # 1,000 messages each; sizes grow with the last number
        sizes = (0.2, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.6, 3.0, 6.0, 1.0, 1.5, 2.5, 4.5, 6.5, 6.5, 6.5, 6.5)
        return sizes[int(rest.split(".")[1]) - 1]
    return 1.0 if chapter == "9" else 0.1


def run_cases(site: pathlib.Path, cases: list[str], url: str, jobs: int) -> dict[str, dict[str, object]]:
    """Run the cases in parallel clients; return what each client wrote about each case."""
    shares: list[list[str]] = [[] for _ in range(max(1, min(jobs, len(cases))))]
    for case in sorted(cases, key=cost, reverse=True):
        min(shares, key=lambda share: sum(map(cost, share))).append(case)
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir()
    clients = []
    for number, share in enumerate(shares):
        directory = REPORTS / str(number)
        directory.mkdir()
        server = {"agent": "server", "url": url, "options": {}}
        spec = {"outdir": str(directory), "servers": [server], "cases": share}
        (directory / "spec.json").write_text(
            json.dumps({**spec, "exclude-cases": [], "exclude-agent-cases": {}})
        )
        command = [
            python27(),
            "-W",
            "ignore",
            str(HERE / "fuzzing_client.py"),
            str(site),
            str(directory / "spec.json"),
        ]
        with (directory / "client.log").open("wb") as log:
            clients.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
    try:
        watch(clients, len(cases))
    finally:
        for client in clients:
            client.kill()
            client.wait()
    verdicts: dict[str, dict[str, object]] = {}
    for path in REPORTS.glob("*/*_case_*.json"):
        case = json.loads(path.read_text())
        verdicts[case["id"]] = {**case, "report": str(path.relative_to(ROOT).with_suffix(".html"))}
    return {case: verdicts.get(case, {"behavior": "MISSING", "behaviorClose": "MISSING"}) for case in cases}


def watch(clients: list[subprocess.Popen[bytes]], total: int) -> None:
    """Wait for the clients, with a line of progress twice a minute."""
    shown = time.monotonic()
    while any(client.poll() is None for client in clients):
        for client in clients:
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(timeout=0.2)
        if time.monotonic() - shown > 30:
            shown = time.monotonic()
            logs = [path.read_bytes().count(b"Running test case") for path in REPORTS.glob("*/client.log")]
            print(f"… {sum(logs)} of {total} cases", flush=True)


# ----------------------------------------------------------------------------------------------- the server


@contextlib.contextmanager
def running(command: str, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server while the block runs; then stop it with SIGTERM."""
    words = shlex.split(command.replace("{port}", str(urllib.parse.urlsplit(url).port)))
    if words[0] in ("python", "python3"):
        words[0] = sys.executable
    server = subprocess.Popen(words, cwd=ROOT)
    try:
        yield server
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"the server ignored SIGTERM for {STOP_SECONDS:.0f} s: killed", file=sys.stderr)
                server.kill()
                server.wait()


def wait_until_ready(url: str, server: subprocess.Popen[bytes] | None) -> None:
    """Return when the server completes an opening handshake."""
    parts = urllib.parse.urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    head = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    head += "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    deadline = time.monotonic() + READY_SECONDS
    answer: object = None
    while time.monotonic() < deadline:
        if server is not None and server.poll() is not None:
            raise CannotRun(f"the server ended with status {server.returncode} before it was ready")
        try:
            with socket.create_connection(address, timeout=2) as connection:
                connection.sendall(head.encode())
                answer = connection.recv(4096)
            if answer.startswith(b"HTTP/1.1 101"):
                return
        except OSError as error:
            answer = error
        time.sleep(0.05)
    raise CannotRun(
        f"no WebSocket server at {url} within {READY_SECONDS:.0f} s; the last answer was {answer!r}"
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---------------------------------------------------------------------------------------------- the verdict


def report(
    verdicts: dict[str, dict[str, object]], expected: dict[str, dict[str, str]], seconds: float
) -> bool:
    """Print the counts and every deviation; say whether there was none."""
    for aspect in ("behavior", "behaviorClose"):
        counts = collections.Counter(str(verdict[aspect]) for verdict in verdicts.values())
        print(f"{aspect:14}", "  ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    deviations = 0
    for case, verdict in verdicts.items():
        for aspect in ("behavior", "behaviorClose"):
            wanted, found = expected[aspect].get(case, "OK"), str(verdict[aspect])
            if found == wanted and found not in REFUSED:
                continue
            if found == "OK":
                print(f"note  {case} {aspect}: OK, and expected.json says {wanted}")
                continue
            deviations += 1
            reason = verdict.get("result" if aspect == "behavior" else "resultClose", "no report was written")
            print(f"FAIL  {case} {aspect}: {found}, expected {wanted}: {reason} {verdict.get('report', '')}")
    good = len(verdicts) * 2 - deviations
    print(f"{len(verdicts)} cases in {seconds:.0f} s: {good} verdicts as expected, {deviations} not")
    return deviations == 0


if __name__ == "__main__":
    sys.exit(main())
