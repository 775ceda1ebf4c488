"""``umbel load merge``: several results as one."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from test_load import loaded, serving
from umbel._command_line import command
from umbel.load import LoadResults, merge


def kept(place: Path, *several: LoadResults) -> list[str]:
    files = [place / f"{number}.json" for number, _ in enumerate(several)]
    for file, each in zip(files, several, strict=True):
        file.write_text(json.dumps(each.to_json()))
    return [str(file) for file in files]


async def test_results_are_added_up_and_their_latencies_are_those_of_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving() as target:
        one = await loaded(target, channel="load-1")
        other = await loaded(target, channel="load-2", rate=20.0)
    slow = replace(
        other,
        latency=replace(other.latency, max=9000.0, mean=9000.0),  # type: ignore[type-var, arg-type]
        histograms={**other.histograms, "latency": [[1857, other.latency.count]]},  # type: ignore[union-attr]
        faults={"updates missing": 1},
    )
    files = kept(tmp_path, one, slow)
    assert command.main(["load", "merge", *files, "--json", "--require", "faults==0"]) == 1
    shown = capfd.readouterr()
    assert "missed: faults==0, but it is 1" in shown.err
    found = LoadResults.of_json(json.loads(shown.out))
    assert one.latency is not None and other.latency is not None and found.latency is not None
    assert found.latency.count == one.latency.count + other.latency.count
    assert found.latency.p50 <= one.latency.max
    assert 8_000 < found.latency.p99 <= found.latency.max == 9000.0
    assert (found.messages, found.published) == (
        one.messages + other.messages,
        one.published + other.published,
    )
    assert (found.success_rate, found.max_concurrent_connections, found.complete) == (1.0, 42, True)


async def test_one_result_is_merged_to_itself_and_written_results_are_read_back() -> None:
    async with serving() as target:
        one = await loaded(target)
    back = LoadResults.of_json(json.loads(json.dumps(one.to_json())))
    assert back.to_json() == one.to_json()
    merged = merge([back])
    left_out = {"seconds", "server_bytes_per_connection"}
    for name in {each.name for each in fields(LoadResults)} - left_out:
        assert plain(getattr(merged, name)) == plain(getattr(one, name)), name


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=lambda each: [getattr(each, f.name) for f in fields(each)]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "0.json can't be added"),
        ("[]", "no results"),
        ('{"version": 1}', "no results"),
        (None, "No such file"),
    ],
)
def test_files_without_results_are_exit_code_2(
    text: str | None, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "0.json"
    if text is not None:
        file.write_text(text)
    assert command.main(["load", "merge", str(file)]) == 2
    assert says in capfd.readouterr().err


async def test_different_scenarios_and_versions_are_exit_code_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving() as target:
        one = await loaded(target, scenario="ramp", seconds=0.1)
    files = kept(tmp_path, one, replace(one, scenario="fanout"), replace(one, version=2))
    assert command.main(["load", "merge", *files[:2]]) == 2
    assert "not fanout and ramp" in capfd.readouterr().err
    assert command.main(["load", "merge", files[2]]) == 2
    assert "version 2" in capfd.readouterr().err
