"""`deploy/chart`, linted, rendered by Helm's own code and checked with Kubernetes' schemas; no cluster is needed."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from app import __version__
from app.settings import load_settings
from app.settings.model import SETTING_NAMES, Settings, setting_name

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"
SETS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*.yaml"))
# The oldest version that the chart admits, and the newest that the schemas know.
KUBERNETES = ("1.27", "1.37")
# We have no schema for these: other projects define them.
FOREIGN = {"ScaledObject", "ServiceMonitor"}
SECRET_SETTINGS = {
    *(setting_name(name) for name, field in Settings.model_fields.items() if SecretStr.__name__ in repr(field)),
    "STRIPE_ACCOUNTS",  # keys, one level deeper
}

Manifest = dict[str, Any]


def values_of(name: str) -> Manifest:
    values: Manifest = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text(encoding="utf-8"))
    return values


def rendered(values: Manifest) -> list[Manifest]:
    """Everything that an install with these values applies."""
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed: make setup EXTRAS=chart")
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name="tallyhook", namespace="reports")
    texts = [text for name, text in files.items() if not name.endswith("NOTES.txt")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest is not None]


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    [found] = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pods' specs by component."""
    found = [each for each in manifests if each["kind"] in ("Deployment", "Job")]
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]["spec"] for each in found
    }


def environment(pod: Manifest) -> dict[str, str]:
    [container] = pod["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


def test_there_are_the_four_sets_that_are_tried() -> None:
    assert SETS == ["autoscaling", "closed-network", "default", "external-secrets"]


@pytest.mark.parametrize("name", SETS)
def test_helm_finds_nothing_to_complain_about(name: str) -> None:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed: make setup EXTRAS=chart")

    report = helm.lint(CHART, values_of(name), strict=True)

    assert report["total_charts_linted"] == 1
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", SETS)
def test_kubernetes_knows_every_field_of_what_is_rendered(name: str, version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed").validate
    manifests = rendered(values_of(name))

    for manifest in manifests:
        if manifest["kind"] not in FOREIGN:
            validate(manifest, version, strict=True)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(names) == len(set(names))


def test_a_misspelt_field_would_be_seen() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    deployment = deepcopy(one(rendered({}), "Deployment", "tallyhook-serve"))
    deployment["spec"]["replica"] = deployment["spec"].pop("replicas")

    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(deployment, "1.31", strict=True)


@pytest.mark.parametrize(("values", "said"), [
    ({"replicas": 3}, "replicas"),
    ({"serve": {"replica": 3}}, "replica"),
    ({"serve": {"replicas": "3"}}, "integer"),
    ({"worker": {"autoscaling": {"byCPU": "yes"}}}, "boolean"),
    ({"serve": {"autoscaling": {"byQueueAge": True}}}, "byQueueAge"),
    ({"settings": {"TALLYHOOK_FILESTORE": "s3://bucket"}}, "TALLYHOOK_FILESTORE"),
    ({"settings": {"STRIPE_API_KEY": "rk_live_1"}}, "STRIPE_API_KEY"),
    ({"secrets": {"STRIPE_API_KEY": "rk_live_1"}}, "STRIPE_API_KEY"),
    ({"ingress": {"paths": []}}, "paths"),
])  # fmt: skip
def test_unknown_values_and_values_of_a_wrong_type_are_refused(values: Manifest, said: str) -> None:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed: make setup EXTRAS=chart")

    with pytest.raises(helm.HelmError, match=said), helm.Chart.load(CHART) as chart:
        chart.render(values, name="tallyhook")


@pytest.mark.parametrize(("values", "said"), [
    ({"ingress": {"enabled": True}}, "say the host"),
    ({"worker": {"autoscaling": {"byQueueAge": True}}}, "say where Prometheus is"),
    ({"serviceMonitor": {"enabled": True}, "secrets": {"TALLYHOOK_READ_TOKEN": None}}, "Prometheus scrapes with it"),
])  # fmt: skip
def test_missing_values_are_named(values: Manifest, said: str) -> None:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed: make setup EXTRAS=chart")

    with pytest.raises(helm.HelmError, match=said), helm.Chart.load(CHART) as chart:
        chart.render(values, name="tallyhook")


def test_the_schema_names_every_setting_and_lets_no_secret_into_the_open() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))["properties"]

    assert set(schema["secrets"]["propertyNames"]["enum"]) == set(SETTING_NAMES)
    assert set(schema["settings"]["propertyNames"]["enum"]) == set(SETTING_NAMES) - SECRET_SETTINGS
    assert {"STRIPE_API_KEY", "DATABASE_URL", "TALLYHOOK_SIGNING_KEY", "TALLYHOOK_SLACK_URLS"} <= SECRET_SETTINGS


@pytest.mark.parametrize("name", SETS)
def test_every_value_is_described_by_the_schema(name: str) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    assert set(values) | {"global"} == set(schema["properties"])
    assert set(values_of(name)) <= set(values)


@pytest.mark.parametrize("name", SETS)
def test_pods_can_do_nothing_special(name: str) -> None:
    found = pods(rendered(values_of(name)))

    assert set(found) == {"serve", "worker", "migrate"}
    for component, pod in found.items():
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }, component  # fmt: skip
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert container["resources"]["limits"]["memory"]


def test_the_pods_run_as_the_user_of_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [(user, group)] = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)

    for pod in pods(rendered({})).values():
        context = pod["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))


@pytest.mark.parametrize("name", SETS)
def test_secrets_come_as_files_and_by_name_alone(name: str) -> None:
    for pod in pods(rendered(values_of(name))).values():
        [volume] = [each["projected"] for each in pod["volumes"] if each["name"] == "secrets"]
        files = {item["path"] for source in volume["sources"] for item in source["secret"]["items"]}
        given = environment(pod)

        assert {name for name in given if name.endswith("_FILE")} == {f"{path}_FILE" for path in files}
        assert all(given[f"{path}_FILE"] == f"/run/secrets/tallyhook/{path}" for path in files)
        assert volume["defaultMode"] == 0o440
        assert not SECRET_SETTINGS & set(given)


def test_existing_secrets_are_used_where_they_are() -> None:
    [volume] = [
        each for each in pods(rendered(values_of("external-secrets")))["serve"]["volumes"] if "projected" in each
    ]
    sources = {
        item["path"]: (source["secret"]["name"], item["key"])
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }

    assert sources == {
        "DATABASE_URL": ("tallyhook-db-app", "uri"),
        "STRIPE_ACCOUNTS": ("stripe", "accounts.json"),
        "TALLYHOOK_ADMIN_TOKEN": ("tallyhook", "admin_token"),
        "TALLYHOOK_READ_TOKEN": ("tallyhook", "read_token"),
    }


def test_the_default_secret_has_what_make_secrets_makes() -> None:
    made = set(
        re.findall(r"^once (\w+)", (ROOT / "deploy" / "make-secrets.sh").read_text(encoding="utf-8"), re.MULTILINE)
    )
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert {one["key"] for one in values["secrets"].values()} <= made


def test_the_service_understands_the_settings_that_are_rendered() -> None:
    given = environment(pods(rendered(values_of("external-secrets")))["worker"])

    settings = load_settings({name: value for name, value in given.items() if not name.endswith("_FILE")}, None)

    assert settings.warnings == ()
    assert settings.file_store == "s3://reports/tallyhook"
    assert settings.max_pending_runs == 50
    assert settings.reconcile_seconds == 900.5
    assert settings.max_unverified_bytes == 16_777_216


def test_the_image_is_the_one_of_this_version_unless_another_is_named() -> None:
    images = [{pod["containers"][0]["image"] for pod in pods(rendered(values_of(name))).values()} for name in
              ("default", "external-secrets")]  # fmt: skip

    assert images == [{f"tallyhook:{__version__}"}, {"registry.example.com/tallyhook:2026-11-20"}]


def test_the_schema_is_brought_to_head_before_anything_else() -> None:
    job = one(rendered({}), "Job", "tallyhook-migrate")

    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_probes_go_where_the_service_answers() -> None:
    from app.api.health import router

    paths = {route.path for route in router.routes if hasattr(route, "path")}
    found = pods(rendered({}))

    for component in ("serve", "worker"):
        [container] = found[component]["containers"]
        probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
        assert {probe["path"] for probe in probes.values()} <= paths
        # A database that is down must restart no pod.
        assert [probes[name]["path"] for name in probes] == ["/health/live", "/health/live", "/health/ready"]
        assert container["args"][-4:] == ["--host", "0.0.0.0", "--port", "8000"]
        assert container["ports"] == [{"name": "http", "containerPort": 8000}]
        assert found[component]["terminationGracePeriodSeconds"] >= 5 + 15  # the preStop hook, and ours


def test_one_pod_at_a_time_may_be_taken_away() -> None:
    manifests = rendered({})

    for component in ("serve", "worker"):
        deployment = one(manifests, "Deployment", f"tallyhook-{component}")
        budget = one(manifests, "PodDisruptionBudget", f"tallyhook-{component}")
        assert deployment["spec"]["replicas"] == 2
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_each_deployment_is_scaled_by_one_only() -> None:
    manifests = rendered(values_of("autoscaling"))
    scaled = one(manifests, "ScaledObject", "tallyhook-worker")["spec"]

    assert [each["metadata"]["name"] for each in manifests if each["kind"] == "HorizontalPodAutoscaler"] == [
        "tallyhook-serve"
    ]
    assert [trigger["type"] for trigger in scaled["triggers"]] == ["prometheus", "cpu"]
    assert scaled["triggers"][0]["metadata"] == {
        "serverAddress": "http://prometheus.monitoring:9090",
        "query": 'max(tallyhook_oldest_due_run_age_seconds{namespace="reports"})',
        "threshold": "120",
    }
    for component in ("serve", "worker"):
        assert "replicas" not in one(manifests, "Deployment", f"tallyhook-{component}")["spec"]


def test_the_metric_that_scales_is_one_of_ours() -> None:
    template = (CHART / "templates" / "autoscaling.yaml").read_text(encoding="utf-8")
    gauges = (ROOT / "app" / "health" / "gauges.py").read_text(encoding="utf-8")

    for metric in re.findall(r"tallyhook_\w+(?=\{namespace)", template):
        assert f'"{metric}"' in gauges
    assert "tallyhook_oldest_due_run_age_seconds{namespace" in template


def test_only_the_webhooks_are_published() -> None:
    ingress = one(rendered(values_of("closed-network")), "Ingress", "tallyhook")["spec"]

    [rule] = ingress["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/webhooks/stripe"]
    assert ingress["tls"] == [{"hosts": ["reports.example.com"], "secretName": "reports-tls"}]


def test_prometheus_finds_every_process_and_labels_it_as_the_alerts_expect() -> None:
    manifests = rendered(values_of("closed-network"))
    monitor = one(manifests, "ServiceMonitor", "tallyhook")["spec"]
    alerts = (ROOT / "deploy" / "alerts.yml").read_text(encoding="utf-8")

    wanted = monitor["selector"]["matchLabels"].items()
    services = [
        each for each in manifests if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
    ]
    assert {each["spec"]["selector"]["app.kubernetes.io/component"] for each in services} == {"serve", "worker"}
    assert {each["metadata"]["labels"][monitor["jobLabel"]] for each in services} == set(
        re.findall(r'job="(\w+)"', alerts)
    )
    [endpoint] = monitor["endpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": "tallyhook", "key": "read_token"}}
    assert endpoint["relabelings"][0]["targetLabel"] == "service"


def test_a_closed_network_lets_in_the_named_and_lets_out_the_needed() -> None:
    manifests = rendered(values_of("closed-network"))
    policies = {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]
        for each in manifests
        if each["kind"] == "NetworkPolicy"
    }
    values = values_of("closed-network")["networkPolicy"]

    assert set(policies) == {"serve", "worker", "migrate"}
    assert policies["serve"]["ingress"][0]["from"] == values["serveFrom"] + values["scrapeFrom"]
    assert policies["worker"]["ingress"][0]["from"] == values["scrapeFrom"]
    assert policies["migrate"]["ingress"] == []
    ports = {
        name: [port["port"] for rule in each["egress"] for port in rule["ports"]] for name, each in policies.items()
    }
    assert ports == {"serve": [53, 53, 5432, 443, 587], "worker": [53, 53, 5432, 443, 587], "migrate": [53, 53, 5432]}
    assert all(each["egress"][1]["to"] == values["database"] for each in policies.values())


def test_naming_nobody_opens_serve_and_keeps_workers_closed() -> None:
    scrape: list[Manifest] = [{"podSelector": {}}]
    closed = rendered({"networkPolicy": {"enabled": True}})
    scraped = rendered({"networkPolicy": {"enabled": True, "scrapeFrom": scrape}})

    for manifests in (closed, scraped):  # allowing scrapers takes nothing from the others
        assert one(manifests, "NetworkPolicy", "tallyhook-serve")["spec"]["ingress"] == [
            {"ports": [{"port": 8000, "protocol": "TCP"}]}
        ]
    assert one(closed, "NetworkPolicy", "tallyhook-worker")["spec"]["ingress"] == []


def test_the_database_of_the_example_replicates_synchronously() -> None:
    cluster = yaml.safe_load((ROOT / "deploy" / "cloudnativepg.yaml").read_text(encoding="utf-8"))
    chart_uses = values_of("external-secrets")["secrets"]["DATABASE_URL"]["name"]

    assert cluster["spec"]["instances"] == 3
    assert cluster["spec"]["postgresql"]["synchronous"] == {"method": "any", "number": 1, "dataDurability": "required"}
    assert chart_uses == f"{cluster['metadata']['name']}-app"
    assert values_of("closed-network")["networkPolicy"]["database"] == [
        {"podSelector": {"matchLabels": {"cnpg.io/cluster": cluster["metadata"]["name"]}}}
    ]
