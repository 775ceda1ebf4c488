"""The alert rules and the dashboard in ``ops/``, compared with the metrics that a server has."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from expressions import ALERTS, DASHBOARD, OPS, PANELS, RULES, metric_names
from serving import ROOT


def documented() -> set[str]:
    """The metrics of the documentation, with the series of histograms. A test compares it with a server."""
    rows = re.findall(r"^\| `((?:umbel|process)_\w+)` \| (\w+) ", source("docs/operating.md"), re.MULTILINE)
    known = set()
    for name, kind in rows:
        known |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    assert len(known) > 40
    return known


def source(path: str) -> str:
    return (ROOT / path).read_text()


OTHERS = {"up"}
"""Metrics that Prometheus has of itself."""


@pytest.mark.parametrize(("where", "expression"), [*ALERTS, *PANELS])
def test_the_metrics_exist(where: str, expression: str) -> None:
    names = metric_names(expression)
    assert names, f"no metric in {expression}"
    assert names <= documented() | OTHERS


def test_names_of_metrics_are_found_in_expressions() -> None:
    text = 'histogram_quantile(0.9, sum by (le) (rate(umbel_a_bucket{reason=~"x|process_b"}[5m]))) > up'
    assert metric_names(text) == {"umbel_a_bucket", "up"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_says_what_it_means_and_what_to_do(rule: dict[str, str]) -> None:
    assert {"summary", "description", "runbook"} <= set(rule)
    assert rule["severity"] in ("page", "ticket")
    assert "$labels.instance" in rule["summary"] + rule["description"]
    assert ("by (job, instance, reason)" in rule["expr"]) == ("$labels.reason" in rule["summary"])
    assert len(rule["runbook"]) > 40


def test_metrics_that_other_programs_have_are_read_of_the_job_only() -> None:
    for where, expression in ALERTS:
        for name in metric_names(expression):
            if not name.startswith("umbel_"):
                assert f'{name}{{job="umbel"}}' in expression, where
    for where, expression in PANELS:
        for name in metric_names(expression):
            assert f'{name}{{job=~"$job", instance=~"$instance"' in expression, where


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    text = (OPS / "prometheus" / "umbel.rules.test.yml").read_text()
    cases = re.findall(r"^  - name: (\w+) (fires|is quiet)", text, re.MULTILINE)
    for name in (rule["alert"] for rule in RULES):
        assert {kind for alert, kind in cases if alert == name} == {"fires", "is quiet"}, name
    assert {alert for alert, _ in cases} == {rule["alert"] for rule in RULES}


def test_the_panels_of_the_dashboard_do_not_overlap_and_say_what_they_show() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= cells
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert panel["targets"], panel["title"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(?!__)(\w+)", json.dumps(DASHBOARD)))
    assert used == variables
