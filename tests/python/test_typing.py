"""Types: the package, applications, the examples of the documentation; the stub against the binary."""

import os
import subprocess
import sys

from pages import PAGES, examples
from serving import ROOT

TYPING = ROOT / "tests" / "typing"


def check(*command) -> None:
    environment = {**os.environ, "MYPYPATH": str(ROOT / "python")}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_and_applications_that_use_it_are_typed(tmp_path):
    """Among the applications are the examples of README and of the other pages, as they are printed there."""
    programs = []
    for page in PAGES:
        for number, code in enumerate(examples(page), 1):
            programs.append(tmp_path / f"{page.stem}_{number}.py")
            programs[-1].write_text(code)
    assert len(programs) >= 2
    places = ["python/umbel", "examples", TYPING, *programs]
    check("mypy", "--strict", "--cache-dir", tmp_path / "cache", *places)


def test_the_stub_is_what_the_binary_is():
    check("mypy.stubtest", "umbel._core", "--allowlist", TYPING / "stubtest.allowlist")
