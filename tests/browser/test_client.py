"""The JavaScript client and its React hooks in Chromium, with WebSockets and without."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from chromium import HERE, executable, install

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("script", ["client.mjs", "fallback.mjs"])
def test_the_client_and_its_hooks_do_what_they_promise(script: str) -> None:
    missing = install()
    if missing:
        pytest.fail(missing)
    environment = {**os.environ, "CHROMIUM": str(executable()), "PYTHON": sys.executable}
    done = subprocess.run(
        ["node", "--test", script], cwd=HERE, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
