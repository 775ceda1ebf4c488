"""What a comparison makes of its measurements: ratios in which more is better, and what was not valid."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import compare
from figures import FIGURES, Figure
from harness import EFFORTS, Bench
from processes import BenchError
from rows import ROWS

ABOUT = {
    "cpu": "a processor",
    "cores": 2,
    "kernel": "6",
    "python": "3.11",
    "commits": {"this": "aaaa", "other": "bbbb"},
}


def measuring(
    values: dict[str, Iterator[float]], *, more_is_better: bool = True, windows: int = 1
) -> tuple[Figure, dict[str, Bench]]:
    """Return a figure that gives these values in turn, and a bench for each side."""
    benches = {side: Bench(EFFORTS["short"], Path(side)) for side in compare.SIDES}

    def measure(bench: Bench) -> float:
        return next(values[str(bench.floor_binary)])

    return Figure("things/s", more_is_better, measure, windows), benches


def compared(
    monkeypatch: pytest.MonkeyPatch, turns: int, figure: Figure, benches: dict[str, Bench]
) -> tuple[compare.Outcome, str]:
    monkeypatch.setattr(compare, "FIGURES", {"row": figure})
    outcomes = compare.measure(benches, ["row"], turns)
    return outcomes["row"], compare.table(ABOUT, outcomes, turns, 60)


@pytest.mark.parametrize(("more_is_better", "ratios"), [(True, [2.0, 0.5, 1.5]), (False, [0.5, 2.0, 2 / 3])])
def test_in_a_ratio_more_is_better_and_the_median_of_the_turns_counts(
    monkeypatch: pytest.MonkeyPatch, more_is_better: bool, ratios: list[float]
) -> None:
    values = {"this": iter([20.0, 5.0, 15.0]), "other": iter([10.0, 10.0, 10.0])}
    outcome, text = compared(monkeypatch, 3, *measuring(values, more_is_better=more_is_better))
    assert outcome.ratios() == pytest.approx(ratios)
    median = sorted(ratios)[1]
    assert (
        f"| `row` | things/s | 15.00 | 10.00 | {median:.3f} | {min(ratios):.3f} to {max(ratios):.3f} |"
        in text
    )
    assert f"Geometric mean of 1 rows: {median:.3f}" in text


def test_the_side_that_goes_first_changes_with_every_turn_and_window(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def measure(bench: Bench) -> float:
        order.append(str(bench.floor_binary))
        return float(len(order))

    _, benches = measuring({})
    outcome, _ = compared(monkeypatch, 2, Figure("things/s", True, measure, windows=2), benches)
    assert order == ["this", "other", "other", "this", "other", "this", "this", "other"]
    assert outcome.values["this"] == pytest.approx([(1 * 4) ** 0.5, (6 * 7) ** 0.5])


def test_a_turn_that_is_not_valid_is_named_and_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_once() -> Iterator[float]:
        yield 10.0
        raise BenchError("connections were lost")

    values: dict[str, Iterator[float]] = {"this": fail_once(), "other": iter([10.0, 10.0])}
    outcome, text = compared(monkeypatch, 2, *measuring(values))
    assert outcome.ratios() == [1.0]
    assert outcome.faults == ["turn 2: connections were lost"]
    assert "- `row`, turn 2: connections were lost" in text


def test_every_figure_belongs_to_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(FIGURES) <= set(ROWS)


def test_a_measurement_says_which_checkout_it_was_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that Python does not take from the named directory must not be measured in its name."""
    bench = Bench(EFFORTS["short"], Path("no-floor"), package=tmp_path)
    with pytest.raises(BenchError, match=f"not from {tmp_path}"):
        bench.umbel()


def test_rows_that_do_not_exist_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[Any]
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare.py", "--base", ".", "no-such-row"])
    with pytest.raises(SystemExit) as ended:
        compare.main()
    assert ended.value.code == 2
    assert "no-such-row" in capsys.readouterr().err
