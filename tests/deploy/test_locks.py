"""The locks in requirements/: one for each use, all agreeing, and nothing that sends people to a registry for us."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[[a-z0-9,-]+\])?==([^ ;]+)", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    """Which packages this lock installs, and in which version."""
    return dict(PIN.findall((ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")))


def names(requirements: list[str | dict[str, str]]) -> set[str]:
    return {match[0].lower() for one in requirements if isinstance(one, str) and (match := re.match(r"[\w.-]+", one))}


LOCKS = sorted(path.stem for path in (ROOT / "requirements").glob("*.txt"))


def test_every_extra_and_every_group_has_a_lock() -> None:
    assert {"run", *GROUPS, *EXTRAS} - {"objectstore"} == set(LOCKS)


@pytest.mark.parametrize(("lock", "wanted"), [
    ("run", [*PROJECT["project"]["dependencies"], *EXTRAS["objectstore"]]),
    *[(name, list(wanted)) for name, wanted in {**EXTRAS, **GROUPS}.items() if name != "objectstore"],
])  # fmt: skip
def test_a_lock_has_what_it_is_for(lock: str, wanted: list[str | dict[str, str]]) -> None:
    assert names(wanted) <= pins(lock).keys()


@pytest.mark.parametrize("unwanted", ["parquet", "tracing", "dev", "browser", "chart"])
def test_the_service_alone_installs_nothing_of_the_others(unwanted: str) -> None:
    wanted = {**EXTRAS, **GROUPS}[unwanted]

    assert not names(list(wanted)) & pins("run").keys()


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_agree_about_every_version_and_carry_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")

    assert {name: pins(lock)[name] for name in pins(lock).keys() & pins("dev").keys()} == {
        name: pins("dev")[name] for name in pins(lock).keys() & pins("dev").keys()
    }
    assert len(re.findall(r"^\S+==.*\\\n    --hash=sha256:", text, re.MULTILINE)) == len(pins(lock))
    assert "://" not in text


def test_the_image_installs_locks_that_are_there() -> None:
    [extras] = re.findall(r"^ARG EXTRAS=(.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)

    assert set(extras.split()) <= set(LOCKS)


def test_nothing_tells_people_to_install_our_name_from_a_registry() -> None:
    texts = [*(ROOT / "app").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / ".env.example"]
    told = [path for path in texts if re.search(r"tallyhook\[|install '?tallyhook", path.read_text(encoding="utf-8"))]

    assert told == []
