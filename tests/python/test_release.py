"""One version everywhere: the manifest, what is locked, the package, the changelog and the tag."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import tomllib
from typing import Any

import pytest
from serving import ROOT

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
SECTION = re.compile(r"## (?P<version>\d+\.\d+\.\d+), (?P<date>\d{4}-\d\d-\d\d)(?P<yanked>, yanked)?")


def manifest(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text())


VERSION: str = manifest("Cargo.toml")["package"]["version"]


def sections() -> list[str]:
    """Return the headings of the changelog, newest first."""
    return re.findall(r"^## .*$", CHANGELOG, re.MULTILINE)


def released() -> list[re.Match[str]]:
    """Return the headings of the versions that were released, newest first."""
    headings = [heading for heading in sections() if heading != "## Unreleased"]
    matches = [(heading, SECTION.fullmatch(heading)) for heading in headings]
    wrong = [heading for heading, match in matches if match is None]
    assert not wrong, f"neither '## Unreleased' nor '## 1.2.3, 2026-12-31': {wrong}"
    return [match for _, match in matches if match is not None]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def tags() -> list[str]:
    """Return the version tags of this very commit."""
    command = ["git", "tag", "--points-at", "HEAD", "--list", "v*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("lock", ["Cargo.lock", "tests/fuzz/Cargo.lock"])
def test_lock_files_have_the_version_of_the_manifest(lock: str) -> None:
    locked = [package["version"] for package in manifest(lock)["package"] if package["name"] == "umbel"]
    assert locked == [VERSION]


def test_the_package_takes_its_version_from_the_manifest_of_the_core() -> None:
    import umbel

    assert umbel.__version__ == VERSION
    project = manifest("pyproject.toml")["project"]
    assert "version" in project["dynamic"]
    assert "version" not in project


def test_the_javascript_client_has_the_version_of_its_server() -> None:
    for name in ("package.json", "package-lock.json"):
        assert json.loads((ROOT / "clients" / "js" / name).read_text())["version"] == VERSION


def test_the_newest_section_of_the_changelog_is_this_version_or_unreleased() -> None:
    assert sections()[0] == "## Unreleased" or released()[0]["version"] == VERSION
    assert "## Unreleased" not in sections()[1:]


def test_the_changelog_lists_versions_and_dates_newest_first_up_to_this_version() -> None:
    versions = [numbers(section["version"]) for section in released()]
    dates = [dt.date.fromisoformat(section["date"]) for section in released()]
    assert versions == sorted(set(versions), reverse=True)
    assert dates == sorted(dates, reverse=True)
    assert all(version <= numbers(VERSION) for version in versions)


def test_a_tagged_commit_is_the_release_that_its_tag_names() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: there are no tags")
    if found := tags():
        assert found == [f"v{VERSION}"]
        assert sections()[0].startswith(f"## {VERSION}, "), "a release has a dated section in the changelog"


def test_continuous_integration_runs_every_python_that_is_promised() -> None:
    project = manifest("pyproject.toml")["project"]
    promised = [
        found[1]
        for text in project["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text))
    ]
    assert project["requires-python"] == f">={promised[0]}"
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    run = re.findall(r'"(3\.\d+)"', workflow)
    assert sorted(run, key=numbers) == sorted(promised, key=numbers)
