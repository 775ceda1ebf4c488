"""Types: the package and an application under mypy --strict, and the stub against the binary."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TYPING = ROOT / "tests" / "typing"


def check(*command: str) -> None:
    environment = {**os.environ, "MYPYPATH": str(ROOT / "python")}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_and_an_application_that_uses_it_are_typed(tmp_path):
    check("mypy", "--strict", "--cache-dir", str(tmp_path), "python/umbel", "examples", str(TYPING))


def test_the_stub_is_what_the_binary_is():
    check("mypy.stubtest", "umbel._core", "--allowlist", str(TYPING / "stubtest.allowlist"))
