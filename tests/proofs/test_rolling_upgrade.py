"""The previous version and this one side by side on one database: neither stops, and every report is made once."""

import io
import subprocess
import sysconfig
import tarfile
from datetime import date
from os import pathsep
from pathlib import Path

import pytest

from app.db.migrate import read_revision
from app.db.revisions import head_revision
from app.resources import open_resources
from app.simulator import Simulator
from tests.proofs.processes import ServiceProcess, cleared_away, has_settled
from tests.proofs.promises import broken_promises, owed_days
from tests.service import (
    REPORT_TYPE,
    WEBHOOK_SECRET,
    add_rule,
    at,
    execute,
    fetch,
    make_environ,
    make_settings,
    unpublished,
    until_found,
)
from tests.until import until

# The version that this one must run beside.
BEFORE = "330d95e"
# SQLAlchemy logs it if a connection is cancelled as it is handed back, as the previous version does at its end.
OLD_NOISE = "Exception during reset or similar"
FIRST_DAY = date(2026, 3, 1)
SETTINGS = {
    "TALLYHOOK_STALLED_AFTER_SECONDS": 5,
    "TALLYHOOK_PENDING_POLL_SECONDS": 2,
    "TALLYHOOK_RECONCILE_SECONDS": 60,
}


@pytest.fixture
def code_before(tmp_path: Path) -> str:
    """The code of the previous version, from git's history."""
    root = Path(__file__).parents[2]
    packed = subprocess.run(["git", "archive", BEFORE, "app", "migrations"], cwd=root, capture_output=True, check=False)
    if packed.returncode != 0:
        pytest.skip(f"git does not have {BEFORE} here: a shallow clone, or a source archive")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tmp_path / "before", filter="data")
    return pathsep.join([str(tmp_path / "before"), sysconfig.get_path("purelib")])


@pytest.mark.slow
async def test_the_version_before_works_beside_this_one_and_what_it_stored_is_loaded_and_announced(
    empty_database_url: str, simulator: Simulator, code_before: str, tmp_path: Path
) -> None:
    url = empty_database_url
    environ = make_environ(url, simulator, **SETTINGS)
    old = ServiceProcess("serve", "--port", "0", environ=environ, folder=tmp_path / "old", code=code_before)
    web = ServiceProcess("serve", "--no-worker", "--port", "0", environ=environ, folder=tmp_path / "web")
    new = ServiceProcess("serve", "--port", "0", environ=environ, folder=tmp_path / "new")
    async with cleared_away(old, web, new):
        # Given the previous version, alone on its own schema, with reports that it stored
        endpoint = simulator.add_endpoint(f"{await old.start()}/webhooks/stripe", secrets=[WEBHOOK_SECRET])
        assert read_revision(url) not in (None, head_revision())
        unpublished(simulator)

        # When this version migrates, a web server of it takes the webhooks, and the old worker does all the work
        address = await web.start()
        assert read_revision(url) == head_revision()
        async with open_resources(make_settings(url, simulator, **SETTINGS)) as res:
            rule = await add_rule(res, starts_on=FIRST_DAY)
            simulator.advance(REPORT_TYPE, to=at("2026-03-05"))
            await until(lambda: has_settled(res, runs=4), "the old worker has done its part")
            simulator.change_endpoint(endpoint.id, url=f"{address}/webhooks/stripe")
            await execute(
                res, "insert into targets (id, name, kind, url, recipients, message_types, enabled)"
                " values (gen_random_uuid(), 'all', 'webhook', 'http://127.0.0.1:9/', '{}', '{*}', true)",
            )  # fmt: skip
            simulator.advance(REPORT_TYPE, to=at("2026-03-09"))
            await until(lambda: has_settled(res, runs=8), "and once more, told by the new web server")
            assert await fetch(res, "select 1 from loads where state = 'loaded'") == []

            # And a worker of this version joins, and the old one leaves in the middle of the next reports
            await new.start()
            simulator.advance(REPORT_TYPE, to=at("2026-03-17"))
            await until_found(res, "select 1 from runs where state = 'stored' having count(*) > 10")
            assert old.running
            assert await old.end() == 0
            await until(lambda: has_settled(res, runs=16), "this version has done the rest")

            # Then every report was made once, the files of both are loaded, and what either stored was announced
            assert len(simulator.runs) == 16
            assert await broken_promises(res, simulator, owed=owed_days(rule.id, FIRST_DAY, 16)) == []
            await until_found(res, "select 1 from loads where state = 'loaded' having count(*) = 16")
            await until_found(
                res, "select 1 from messages where type = 'run.stored' having count(distinct subject) = 12"
            )
            crashed = {
                name: [line for line in process.lines() if line["level"] == "error" and line["event"] != OLD_NOISE]
                for name, process in (("old", old), ("web", web), ("new", new))
            }
            assert crashed == {"old": [], "web": [], "new": []}
