#!/usr/bin/env python3
"""Install what the browser tests need: Chromium (Debian's package) and the locked npm packages.

    python tests/browser/chromium.py

Does nothing where everything is there already. ``CHROMIUM`` names another browser. Chromium is installed only
when we are root. Exit status 1 comes with a line that says what is missing.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
CLIENT = HERE.parents[1] / "clients" / "js"

Browser = Callable[..., dict[str, Any]]
"""Runs one scenario of browser.mjs: name, address, options."""


def executable() -> str | None:
    """Return the path of the browser."""
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    return next(filter(None, (shutil.which(name) for name in names if name)), None)


def install() -> str | None:
    """Install what is missing; return what could not be."""
    if executable() is None:
        if not (shutil.which("apt-get") and os.geteuid() == 0):
            return "Chromium is missing: install it, or name it in the environment variable CHROMIUM"
        packages = ["chromium", "fonts-dejavu-core"]
        for action in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            command = ["apt-get", "--quiet", *action]
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    if not shutil.which("npm"):
        return "npm is missing: install Node.js 20 or later"
    for folder in (HERE, CLIENT):
        wanted, found = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
        if not found.exists() or found.stat().st_mtime < wanted.stat().st_mtime:
            subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
            found.touch()
    return None


if __name__ == "__main__":
    missing = install()
    if missing:
        sys.exit(missing)
