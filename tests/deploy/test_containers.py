"""What docker-compose.yml, its demo and the Dockerfile promise, read from the files; the engine is not needed."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings.model import SETTING_NAMES

ROOT = Path(__file__).parents[2]
OURS = ("migrate", "serve", "worker")


def composed(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = composed("docker-compose.yml")["services"]
    return found


def test_every_container_is_read_only_and_can_do_nothing_special(services: dict[str, Any]) -> None:
    simulator = composed("docker-compose.demo.yml")["services"]["simulator"]

    for name, service in {**services, "simulator": simulator}.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "user", "pid", "network_mode"} & set(service), name
    assert [name for name, service in services.items() if "cap_add" in service] == ["postgres"]


def test_workbooks_can_be_made_on_a_read_only_file_system(services: dict[str, Any]) -> None:
    for name in OURS:
        assert services[name]["environment"]["TALLYHOOK_DATA_DIR"] in services[name]["tmpfs"], name


def test_no_secret_is_in_the_file_and_each_comes_as_a_file(services: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    secrets = composed("docker-compose.yml")["secrets"]

    for service in services.values():
        for name, value in service["environment"].items():
            assert not re.search(r"KEY|SECRET|TOKEN|PASSWORD|DATABASE_URL", name) or name.endswith("_FILE"), name
            if name.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert all(set(secret) == {"file"} for secret in secrets.values())
    assert not re.search(r"whsec_|[sr]k_(live|test)_|postgres(ql)?://", text)


def test_settings_are_real_ones(services: dict[str, Any]) -> None:
    demo = composed("docker-compose.demo.yml")["services"]
    for service in [services[name] for name in OURS] + [demo[name] for name in OURS]:
        for name in service["environment"]:
            assert name.removesuffix("_FILE") in SETTING_NAMES


def test_work_begins_after_the_schema_and_ends_before_it_is_killed(services: dict[str, Any]) -> None:
    for name in ("serve", "worker"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert services[name]["healthcheck"]["test"] == ["CMD", "healthy", "ready"]
        assert services[name]["stop_grace_period"] == "20s"
    assert services["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    assert services["migrate"]["restart"] == "no"
    assert "--no-worker" in services["serve"]["command"]


def test_workers_can_be_many_and_only_the_web_server_is_reached_from_this_machine_alone(
    services: dict[str, Any],
) -> None:
    assert not any("container_name" in service for service in services.values())
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"serve": ["127.0.0.1:8000:8000"]}
    assert services["postgres"]["networks"] == ["database"]
    assert composed("docker-compose.yml")["networks"]["database"] == {"internal": True}


def test_secrets_are_made_once_and_differ(tmp_path: Path) -> None:
    script = ROOT / "deploy" / "make-secrets.sh"
    subprocess.run(["sh", script], cwd=tmp_path, check=True, capture_output=True)
    made = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    subprocess.run(["sh", script], cwd=tmp_path, check=True, capture_output=True)

    assert {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()} == made
    assert set(made) == set(composed("docker-compose.yml")["secrets"])
    assert len({made["postgres_password"], made["admin_token"], made["read_token"]}) == 3
    assert all(len(made[name]) >= 32 for name in ("postgres_password", "admin_token", "read_token"))
    assert f":{made['postgres_password']}@" in made["database_url"]
    assert (made["stripe_api_key"], made["stripe_webhook_secret"]) == ("", "")
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_a_folder_of_secrets_that_stood_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir(mode=0o711)

    subprocess.run(["sh", ROOT / "deploy" / "make-secrets.sh"], cwd=tmp_path, check=True, capture_output=True)

    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_nothing_tells_people_to_open_the_folder_of_secrets_or_to_mount_it_whole() -> None:
    for page in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("docker-compose*.yml")]:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"chmod (?!700\b)\S+ secrets(?!/)|secrets:/run/secrets", text), page


def test_nothing_gets_into_the_image_that_is_not_named() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    copied = re.findall(r"^COPY (?!--from)(\S+) ", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)

    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {path.rstrip("/") for path in copied}


def test_the_image_runs_as_an_ordinary_user_from_the_hashed_lock() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    final = text[text.rindex("\nFROM ") :]

    assert "--require-hashes --no-deps --only-binary=:all:" in text.replace("\\\n      ", "")
    assert "USER 10001:10001" in final
    assert "HEALTHCHECK" in final
    assert not re.search(r"apt-get|pip install|gcc|build-essential", final)
