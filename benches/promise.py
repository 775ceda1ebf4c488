"""What Umbel promises, as one scenario that anybody can run: `make promise`, three minutes on two idle cores.

10,000 connections are opened at 500 a second, and read 10 publications a second for 30 s, then 50; then all
of them are reset at once, and come back within a second. The server has one core, the load another.

    python benches/promise.py [CONNECTIONS]
"""

from __future__ import annotations

import contextlib
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVER_CORE, LOAD_CORE = "0", "1"

# The words of each load, and what has to be so.
LOADS = {
    "10 publications/s": (
        ("--rate", "10", "--seconds", "30"),
        ("connect.mean<50ms", "p95<100ms", "success>99.95%", "errors<0.1%", "faults==0"),
    ),
    "50 publications/s": (
        ("--rate", "50", "--seconds", "30"),
        ("connect.mean<50ms", "p95<100ms", "success>99.95%", "errors<0.1%", "faults==0"),
    ),
    "a reset of all": (
        ("--scenario", "storm", "--rate", "10", "--seconds", "30", "--back-within", "1"),
        ("recovery.p95<2s", "errors<0.1%", "faults==0"),
    ),
}


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """The server, and its process."""
    command = [
        "taskset",
        "-c",
        SERVER_CORE,
        sys.executable,
        "-m",
        "umbel",
        "run",
        "promised:app",
        "--port",
        "0",
    ]
    process = subprocess.Popen(command, cwd=HERE / "servers", stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"listening on http://(\S+)", line):
                yield f"ws://{found[1]}/ws", process.pid
                return
        sys.exit("the server did not start")
    finally:
        process.terminate()
        process.wait()


def main(connections: str) -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    missed = False
    for name, (words, required) in LOADS.items():
        print(f"\n{name}", flush=True)
        with serving() as (target, pid):
            load = ["taskset", "-c", LOAD_CORE, sys.executable, "-m", "umbel", "load", target]
            load += ["--connections", connections, "--ramp", "50/100ms", "--pid", str(pid), *words]
            for each in required:
                load += ["--require", each]
            missed |= subprocess.run(load, check=False).returncode != 0
    print("\nmissed" if missed else "\nkept")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["10000"])))
