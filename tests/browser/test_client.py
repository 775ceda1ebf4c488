"""The JavaScript client and its React hooks in Chromium. What they do is in client.mjs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from chromium import HERE, executable, install

pytestmark = pytest.mark.timeout(300)


def test_the_client_and_its_hooks_do_what_they_promise() -> None:
    missing = install()
    if missing:
        pytest.fail(missing)
    environment = {**os.environ, "CHROMIUM": str(executable()), "PYTHON": sys.executable}
    done = subprocess.run(
        ["node", "--test", "client.mjs"], cwd=HERE, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
