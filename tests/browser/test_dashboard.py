"""The dashboard: its rules, and its page in Chromium."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from chromium import HERE, executable, install

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("script", ["dashboard_rules.mjs", "dashboard.mjs"])
def test_the_dashboard_shows_what_a_server_says(script: str) -> None:
    missing = install()
    if missing:
        pytest.fail(missing)
    environment = {**os.environ, "CHROMIUM": str(executable()), "PYTHON": sys.executable}
    done = subprocess.run(
        ["node", "--test", script], cwd=HERE, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
