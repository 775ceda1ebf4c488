"""The examples as running servers, and clients that nobody here wrote."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests" / "python")]

from dialogue import Node  # noqa: E402
from serving import Server, example, running  # noqa: E402


@pytest.fixture(scope="session")
def echo() -> Iterator[Server]:
    """``examples/echo.py``. Its stop with SIGTERM and status 0 is part of the test."""
    with running(example("echo")) as server:
        yield server


@pytest.fixture(scope="session")
def fanout() -> Iterator[Server]:
    """``examples/fanout.py`` with two shards, so that publisher and subscriber may live on different ones."""
    with running(example("fanout", "--shards", "2")) as server:
        yield server


@pytest.fixture(scope="session")
def node() -> Node:
    """Run one scenario of ws_client.mjs and return what it reports. Installs ``ws`` when it is missing."""
    if not shutil.which("node"):
        pytest.fail("node is needed: install Node.js 20 or later")
    lock = json.loads((HERE / "package-lock.json").read_text())
    wanted = lock["packages"]["node_modules/ws"]["version"]
    manifest = HERE / "node_modules" / "ws" / "package.json"
    if not manifest.exists() or json.loads(manifest.read_text())["version"] != wanted:
        subprocess.run(
            ["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=HERE, check=True, timeout=120
        )

    def run(scenario: str, url: str, **options: object) -> dict[str, Any]:
        command = ["node", str(HERE / "ws_client.mjs"), scenario, url, json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    return run
