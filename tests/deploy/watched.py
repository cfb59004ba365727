"""What `deploy/` says of metrics: the expressions of its alerts and of its dashboard."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
# A name, and in braces the labels that are queried.
_SELECTOR = re.compile(r"\b((?:tallyhook|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"")


def alerts() -> dict[str, str]:
    """Every alert's name and expression."""
    found = yaml.safe_load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule["expr"] for group in found["groups"] for rule in group["rules"]}


def dashboard() -> Any:
    return json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))


def panels() -> list[Any]:
    """Those that show something: no rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """All that is queried from Prometheus."""
    return [*alerts().values(), *(target["expr"] for panel in panels() for target in panel["targets"])]


def selectors() -> Iterator[tuple[str, dict[str, str]]]:
    """Each metric that is named, with the labels that are queried."""
    for expression in expressions():
        for name, matchers in _SELECTOR.findall(expression):
            yield name, dict(_MATCHER.findall(matchers))
