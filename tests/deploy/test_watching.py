"""The alerts and the dashboard use metrics that exist, and the real tools accept them."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.health.registry import CHECKS
from app.main import build_app
from app.resources import Resources
from app.tables.checks.results import Verdict
from app.vocabulary import RunState
from tests.api.conftest import BASE_URL, bearer
from tests.deploy.watched import DEPLOY, alerts, dashboard, expressions, panels, selectors
from tests.service import READ_TOKEN

PARTS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",), "info": ("_info",)}
# What Prometheus itself adds to whatever it scrapes.
OF_PROMETHEUS = {"job", "instance", "service"}
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@pytest.fixture
async def families(res: Resources) -> list[Metric]:
    transport = httpx.ASGITransport(build_app(res))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=bearer(READ_TOKEN)) as client:
        return list(text_string_to_metric_families((await client.get("/metrics")).text))


def names_of(families: list[Metric]) -> set[str]:
    """As Prometheus stores them; a counter that nothing has counted yet is known by its family alone."""
    return {family.name.removesuffix("_info") + part for family in families for part in _parts(family)}


def _parts(family: Metric) -> tuple[str, ...]:
    return ("_info",) if family.name.endswith("_info") else PARTS[family.type]


async def test_every_metric_that_is_named_exists(families: list[Metric]) -> None:
    named = {name for name, _ in selectors()}

    assert len(named) > 15
    assert named - names_of(families) == set()


async def test_every_metric_of_ours_is_shown_and_documented(families: list[Metric]) -> None:
    ours = {name for name in names_of(families) if name.startswith("tallyhook_")}
    watching = (DEPLOY.parent / "docs" / "howto" / "watching.md").read_text(encoding="utf-8")
    documented = {name for name in ours if re.search(rf"`{re.sub('_(bucket|count|sum)$', '', name)}`", watching)}

    shown = {name for name, _ in selectors()}
    assert documented == ours
    assert {name for name in ours if not name.endswith(("_count", "_sum"))} - shown == set()


def test_queries_use_label_values_that_exist() -> None:
    known: dict[str, set[str]] = {
        "check": {*CHECKS, "database", "schema", "worker"},
        "state": {*RunState},
        "verdict": {*Verdict},
        "reason": {"wrong_token"},
    }

    for name, labels in selectors():
        for label, value in labels.items():
            if label not in OF_PROMETHEUS and label != "status":
                assert set(value.split("|")) <= known[label], (name, label)


def test_every_alert_is_explained_and_tried() -> None:
    operations = (DEPLOY.parent / "docs" / "operations.md").read_text(encoding="utf-8")
    tried = yaml.safe_load((DEPLOY / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {one["alertname"] for test in tried for one in test["alert_rule_test"] if one["exp_alerts"]}
    quiet = {one["alertname"] for one in tried[0]["alert_rule_test"]}

    assert set(re.findall(r"`(Tallyhook[A-Z]\w+)`", operations)) == set(alerts())
    assert fired == quiet == set(alerts())


def test_the_dashboard_is_whole() -> None:
    board = dashboard()
    ids = [panel["id"] for panel in board["panels"]]

    assert len(set(ids)) == len(ids)
    assert all(target["datasource"]["uid"] == "${datasource}" for panel in panels() for target in panel["targets"])
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource"]
    cells = [cell for panel in board["panels"] for cell in _cells(panel["gridPos"])]
    assert len(set(cells)) == len(cells), "no panel lies on another"
    assert all(0 <= x < 24 for x, _ in cells)


def _cells(place: dict[str, int]) -> list[tuple[int, int]]:
    columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
    return [(x, y) for x in columns for y in lines]


@promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
    ids=["config", "alerts", "tried"],
)
def test_promtool_takes_it(arguments: tuple[str, ...]) -> None:
    told = subprocess.run(["promtool", *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stdout + told.stderr


@promtool
def test_every_expression_of_the_dashboard_can_be_read(tmp_path: Path) -> None:
    rules = [{"record": f"shown:{number}", "expr": text} for number, text in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": rules}]}), encoding="utf-8")

    told = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stdout + told.stderr
