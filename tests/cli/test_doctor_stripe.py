"""The doctor's findings about keys, permissions and webhook endpoints: each made to appear, and repaired."""

from typing import cast

import pytest

from app.accounts.identity import check_identity
from app.cli.doctor.command import examine_with
from app.cli.doctor.endpoint import Fixed
from app.health.results import Check, Status
from app.resources import Resources
from app.settings import Settings
from app.simulator import Simulator
from app.simulator.state.model import PERMISSIONS, Permission
from app.vocabulary import OWN_EVENTS
from tests.cli.examined import URL, findings, make_healthy, statuses
from tests.service import execute, make_settings

KEY = "sk_test_simulator_default"
OTHER_KEY = "sk_test_simulator_other"


async def test_a_refused_key_fails_and_is_not_used_again(res: Resources, simulator: Simulator) -> None:
    await make_healthy(res, simulator)
    simulator.change_key(KEY, revoked=True)

    found = await findings(res.settings)

    assert statuses(found) == {"key": "failing"}
    assert {"key_report_types", "key_files", "webhook_endpoint"} & set(found) == set()


async def test_a_stripe_that_cannot_be_reached_fails(res: Resources, simulator: Simulator, database_url: str) -> None:
    await make_healthy(res, simulator)

    found = await findings(make_settings(database_url, simulator, STRIPE_API_BASE="http://127.0.0.1:1"))

    assert statuses(found) == {"clock": "degraded", "key": "failing"}
    assert "\n" not in found["key"].detail


async def test_an_account_without_a_key_fails(res: Resources, simulator: Simulator, database_url: str) -> None:
    await make_healthy(res, simulator)

    found = await findings(make_settings(database_url, simulator, STRIPE_API_KEY=""))

    assert statuses(found) == {"credentials": "failing", "key": "failing"}


async def test_a_key_of_another_account_than_before_fails(
    res: Resources, simulator: Simulator, database_url: str
) -> None:
    await make_healthy(res, simulator)
    await check_identity(res, "default")
    simulator.add_account("other", api_key=OTHER_KEY)
    simulator.add_endpoint(URL, account="other")

    found = await findings(make_settings(database_url, simulator, STRIPE_API_KEY=OTHER_KEY))

    assert statuses(found) == {"account": "failing"}
    assert simulator.world.account("other").id in found["account"].detail


async def test_a_key_of_the_other_mode_than_before_fails(res: Resources, simulator: Simulator) -> None:
    await make_healthy(res, simulator)
    await check_identity(res, "default")
    await execute(res, "update accounts set livemode = true")

    assert statuses(await findings(res.settings)) == {"account": "failing"}


async def test_a_key_that_may_not_read_its_account_is_not_a_problem(res: Resources, simulator: Simulator) -> None:
    await make_healthy(res, simulator)
    await check_identity(res, "default")
    simulator.inject("status", status=403, match={"path": "^/v1/account$", "key": KEY})

    found = await findings(res.settings)

    assert statuses(found) == {}
    assert "it is not allowed to read its account" in found["key"].detail


@pytest.mark.parametrize(
    ("without", "wrong"),
    [
        ("reporting", {"key_report_types": "failing", "key_report_runs": "failing"}),
        ("files", {"key_files": "failing"}),
        ("webhook_endpoints", {}),
    ],
)
async def test_a_missing_permission_is_named(
    res: Resources, simulator: Simulator, without: str, wrong: dict[str, str]
) -> None:
    await make_healthy(res, simulator)
    simulator.change_key(KEY, permissions=set(PERMISSIONS - {cast(Permission, without)}))

    found = await findings(res.settings)

    assert statuses(found) == wrong
    assert all("permission" in str(found[name].advice) for name in [*wrong, "webhook_endpoint"] if found[name].advice)


async def test_a_permission_that_cannot_be_checked_fails(res: Resources, simulator: Simulator) -> None:
    await make_healthy(res, simulator)
    simulator.inject("status", status=503, match={"path": "report_types"})

    found = await findings(res.settings)

    assert statuses(found) == {"key_report_types": "failing"}
    assert "cannot check whether" in found["key_report_types"].detail


async def test_held_calls_are_shown_with_their_reason(res: Resources, simulator: Simulator) -> None:
    await make_healthy(res, simulator)
    columns = "account, call_kind, reason, next_probe_at"
    await execute(res, f"insert into account_holds ({columns}) values ('default', 'create', 'refused!', now())")

    found = await findings(res.settings)

    assert statuses(found) == {"credentials": "degraded"}
    assert "for requesting reports" in found["credentials"].detail
    assert "refused!" in found["credentials"].detail


async def test_without_a_signing_secret_webhooks_are_refused(
    res: Resources, simulator: Simulator, database_url: str
) -> None:
    await make_healthy(res, simulator)

    found = await findings(make_settings(database_url, simulator, STRIPE_WEBHOOK_SECRET=""))

    assert statuses(found) == {"webhook_secret": "degraded"}


async def endpoint(settings: Settings, url: str | None = URL) -> Check:
    return (await findings(settings, url))["webhook_endpoint"]


async def test_an_endpoint_that_takes_every_event_but_the_one_by_name_fails(
    res: Resources, simulator: Simulator
) -> None:
    simulator.add_endpoint(URL, events=["*"])

    found = await endpoint(res.settings)

    assert found.status == "failing"
    assert "reporting.report_type.updated; `*` does not include it" in found.detail
    assert "report_run" not in found.detail


async def test_an_endpoint_without_the_events_of_runs_fails(res: Resources, simulator: Simulator) -> None:
    simulator.add_endpoint(URL, events=["reporting.report_type.updated", "reporting.report_run.failed"])

    found = await endpoint(res.settings)

    assert found.status == "failing"
    assert "is not sent reporting.report_run.succeeded" in found.detail


async def test_a_disabled_endpoint_fails(res: Resources, simulator: Simulator) -> None:
    simulator.change_endpoint(simulator.add_endpoint(URL).id, enabled=False)

    found = await endpoint(res.settings)

    assert (found.status, "is disabled" in found.detail) == ("failing", True)


@pytest.mark.parametrize(
    ("version", "status"), [("2020-08-27", "ok"), ("2026-10-28.endive", "ok"), ("2026-10-14.preview", "degraded")]
)
async def test_a_preview_version_of_an_endpoint_is_a_warning(
    res: Resources, simulator: Simulator, version: str, status: str
) -> None:
    simulator.add_endpoint(URL).api_version = version

    assert (await endpoint(res.settings)).status == status


async def test_an_endpoint_beside_the_place_does_not_point_here(res: Resources, simulator: Simulator) -> None:
    simulator.add_endpoint(URL + "/")

    found = await endpoint(res.settings)

    assert found.status == "failing"
    assert f"there is {URL}/" in found.detail


async def test_without_a_url_an_endpoint_is_known_by_its_path(res: Resources, simulator: Simulator) -> None:
    assert (await endpoint(res.settings, None)).status == "degraded"

    simulator.add_endpoint("https://elsewhere.example.com/other")
    assert (await endpoint(res.settings, None)).status == "degraded"

    simulator.add_endpoint("https://elsewhere.example.com/prefix/webhooks/stripe", events=["*"])
    assert (await endpoint(res.settings, None)).status == "failing"


async def test_one_right_endpoint_of_two_is_enough(res: Resources, simulator: Simulator) -> None:
    simulator.add_endpoint(URL, events=["*"])
    simulator.add_endpoint(URL)

    assert (await endpoint(res.settings)).status == "ok"


async def fix(settings: Settings) -> tuple[list[Fixed], dict[str, str]]:
    found, fixed = await examine_with(settings, URL, fix=True)
    return fixed, statuses({one.name: one for one in found})


async def test_fixing_registers_the_endpoint_and_shows_its_secret_once(res: Resources, simulator: Simulator) -> None:
    await make_healthy(res, simulator)
    simulator.world.account(None).endpoints.clear()

    first, wrong = await fix(res.settings)
    second, _ = await fix(res.settings)

    (made,) = simulator.world.account(None).endpoints.values()
    assert wrong == {}
    assert first == [Fixed("default", URL, made.id, "registered", made.secrets[0].value, first[0].advice)]
    assert "put it into STRIPE_WEBHOOK_SECRET" in str(first[0].advice)
    assert second == [Fixed("default", URL, made.id, "unchanged")]
    assert set(made.enabled_events) == set(OWN_EVENTS)


async def test_fixing_enables_an_endpoint_and_keeps_its_other_events(res: Resources, simulator: Simulator) -> None:
    there = simulator.add_endpoint(URL, events=["*", "charge.succeeded"])
    simulator.change_endpoint(there.id, enabled=False)

    fixed, _ = await fix(res.settings)

    assert fixed == [Fixed("default", URL, there.id, "repaired")]
    assert there.enabled
    assert set(there.enabled_events) == {"*", "charge.succeeded", *OWN_EVENTS}


async def test_a_platform_has_a_second_endpoint_for_the_events_of_connected_accounts(
    res: Resources, simulator: Simulator
) -> None:
    await make_healthy(res, simulator)
    await execute(res, "insert into connected_lists (account) values ('default')")
    found = (await findings(res.settings))["webhook_endpoint"]
    assert (found.status, "no Connect endpoint" in found.detail) == (Status.OK, True)

    _, fixed = await examine_with(res.settings, URL, fix=True)

    (theirs,) = [one for one in simulator.account().endpoints.values() if one.connect]
    assert [one.action for one in fixed] == ["unchanged", "registered"]
    assert "account.application.deauthorized" in theirs.enabled_events
    assert "for connected accounts" in (await findings(res.settings))["webhook_endpoint"].detail
    simulator.change_endpoint(theirs.id, events=["account.updated"])
    assert (await findings(res.settings))["webhook_endpoint"].status is Status.DEGRADED


async def test_what_stripe_does_not_let_us_fix_is_a_finding(res: Resources, simulator: Simulator) -> None:
    await make_healthy(res, simulator)
    simulator.change_key(KEY, permissions=set(PERMISSIONS - {"webhook_endpoints"}))

    fixed, wrong = await fix(res.settings)

    assert fixed == []
    assert wrong == {"fix": "failing"}


async def test_each_account_has_an_endpoint_of_its_own(simulator: Simulator, database_url: str) -> None:
    simulator.add_account("eu", api_key=OTHER_KEY)
    accounts = f'{{"eu": {{"api_key": "{OTHER_KEY}"}}}}'

    fixed, _ = await fix(make_settings(database_url, simulator, STRIPE_ACCOUNTS=accounts))

    assert {(one.account, one.url) for one in fixed} == {("default", URL), ("eu", f"{URL}/eu")}
    assert [there.url for there in simulator.world.account("eu").endpoints.values()] == [f"{URL}/eu"]
