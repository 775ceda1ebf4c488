"""Runs one load of ``umbel._core``, in the words of src/load/config.rs: JSON, the first line of stdin.

On stderr it says ``started`` when it waits for that line, ``ready`` when all connections are open, and
``window`` when the measurement is over. A load that is to wait goes on at the line ``go`` on stdin. The
result is one JSON object.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from umbel._core import Load

STAGES = ("rampUp", "ready", "warmUp", "measured", "drain", "rampDown", "done")
SAID = {"ready": "ready", "window": "drain"}
LOOK_SECONDS = 0.01


def follow(load: Load) -> None:
    """Says how far it is."""
    for word, stage in SAID.items():
        while STAGES.index(json.loads(load.progress(sys.maxsize))["stage"]) < STAGES.index(stage):
            time.sleep(LOOK_SECONDS)
        print(word, file=sys.stderr, flush=True)


def obey(load: Load) -> None:
    for line in sys.stdin:
        if line == "go\n":
            load.go()


def main() -> None:
    print("started", file=sys.stderr, flush=True)
    load = Load(sys.stdin.readline())
    for act in (follow, obey):
        threading.Thread(target=act, args=(load,), daemon=True).start()
    print(load.run(), flush=True)


if __name__ == "__main__":
    main()
