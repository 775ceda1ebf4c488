"""Chromium, driven by browser.mjs, and the servers that it looks at."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests" / "python")]

from chromium import Browser, executable, install  # noqa: E402
from serving import Server, running  # noqa: E402


@pytest.fixture(scope="session")
def browser() -> Browser:
    """Run one scenario of browser.mjs and return its findings."""
    missing = install()
    if missing:
        pytest.fail(missing)

    def run(scenario: str, url: str, **options: object) -> dict[str, Any]:
        command = ["node", str(HERE / "browser.mjs"), scenario, url, json.dumps(options)]
        environment = {**os.environ, "CHROMIUM": str(executable())}
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment)
        assert done.returncode == 0, done.stderr
        findings: dict[str, Any] = json.loads(done.stdout)
        return findings

    return run


@pytest.fixture(scope="session")
def demo() -> Iterator[Server]:
    """``umbel demo`` on a free port; ``UMBEL_DEMO`` names a script to run in its place."""
    script = os.environ.get("UMBEL_DEMO")
    command = [sys.executable, script] if script else [sys.executable, "-m", "umbel", "demo"]
    with running(Server(*command, "--host", "127.0.0.1", "--port", "0")) as server:
        yield server
