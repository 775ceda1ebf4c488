"""The expressions in ``ops/``: of the alert rules, and of the panels of the dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from serving import ROOT

OPS = ROOT / "ops"

RULES_FILE = OPS / "prometheus" / "umbel.rules.yml"

DASHBOARD: dict[str, Any] = json.loads((OPS / "grafana" / "umbel.json").read_text())


def rules() -> Iterator[dict[str, str]]:
    """The fields of each rule. The file is written so that no reader of YAML is needed: a field is a line."""
    for text in RULES_FILE.read_text().split("\n      - ")[1:]:
        yield dict(re.findall(r"^ *(\w+): (.+)$", text, re.MULTILINE))


RULES = list(rules())

ALERTS = [(rule["alert"], rule["expr"]) for rule in RULES]


def panels() -> Iterator[tuple[str, str]]:
    """The title of each panel, with each of its expressions; and of each annotation."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']}: {target['legendFormat']}", target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


PANELS = list(panels())


def selectors(expression: str) -> list[tuple[str, str]]:
    """The name of each metric in an expression, with the matchers of its labels."""
    # The labels of `by` look as names do.
    text = re.sub(r"\b(?:by|on) \([^)]*\)", "", expression)
    return re.findall(r"\b(up|(?:umbel|process)_\w+)(?:\{([^}]*)\})?", text)


def metric_names(expression: str) -> set[str]:
    return {name for name, _ in selectors(expression)}


def each_value(expression: str) -> Iterator[str]:
    """For each metric and each value of a label that an expression names: what selects it alone."""
    for name, matchers in selectors(expression):
        yield name
        for label, operator, values in re.findall(r'(\w+)(=~?)"([^"$]*)"', matchers):
            for value in values.split("|") if operator == "=~" else [values]:
                yield f'{name}{{{label}="{value}"}}'


def always(expression: str) -> str:
    """An expression that also has a value where its comparison does not hold."""
    return re.sub(r" (>|<|==) ", r" \1 bool ", expression)


def narrowed(expression: str, window: str) -> str:
    """An expression that looks at a shorter time, in place of the variables of Grafana, too."""
    text = re.sub(r"\[(?:\d+m|\$__rate_interval)\]", f"[{window}]", expression)
    return text.replace("$job", "umbel").replace("$instance", ".+")
