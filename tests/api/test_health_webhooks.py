"""What `/health` says about signing secrets: when each last signed, so that a replaced one can be removed."""

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.db.engine import make_engine
from app.inbox.intake import Intake
from app.resources import Resources, open_resources
from app.simulator import Simulator
from tests.api.conftest import client_of
from tests.api.deliveries import delivery
from tests.cli.examined import findings, statuses
from tests.inbox.intake_events import accept, an_event, signed
from tests.service import execute, fetch, make_settings, until_found

OLD, NEW = "whsec_the_old_one", "whsec_the_new_one"
MARKS = [hashlib.sha256(secret.encode()).hexdigest()[:4] for secret in (OLD, NEW)]


@pytest.fixture
async def rotating(database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    """A service that takes two secrets."""
    settings = make_settings(database_url, simulator, STRIPE_WEBHOOK_SECRET=f"{OLD},{NEW}")
    async with open_resources(settings) as res:
        yield res


async def heard(res: Resources, id_: str, *, secret: str, hours_ago: int) -> None:
    event = an_event(id=id_)
    await accept(res.intake, event, header=signed(json.dumps(event).encode(), secret))
    values = {"hours": hours_ago, "id": id_}
    await execute(
        res, "update events set received_at = now() - :hours * interval '1 hour' where stripe_event_id = :id", **values
    )


async def said(api: httpx.AsyncClient) -> str:
    (found,) = [check for check in (await api.get("/health")).json()["checks"] if check["name"] == "webhook_secrets"]
    assert found["status"] == "ok"
    return str(found["detail"])


async def test_a_secret_that_was_rotated_out_can_go_a_day_later(rotating: Resources) -> None:
    async with client_of(rotating) as api:
        await heard(rotating, "evt_1", secret=OLD, hours_ago=26)
        assert "can go" not in await said(api)

        await heard(rotating, "evt_2", secret=NEW, hours_ago=3)

        assert await said(api) == (
            f"default: 1 of 2 (SHA-256 {MARKS[0]}…) signed its last webhook 26 hours ago; "
            f"default: 2 of 2 (SHA-256 {MARKS[1]}…) signed its last webhook 3 hours ago"
        )
        await heard(rotating, "evt_1", secret=OLD, hours_ago=28)
        assert "28 hours ago, while another one is in use: if it was rotated out, remove it" in await said(api)


async def test_a_secret_that_was_only_just_added_is_not_taken_for_an_old_one(rotating: Resources) -> None:
    async with client_of(rotating) as api:
        await heard(rotating, "evt_1", secret=OLD, hours_ago=2)

        assert f"2 of 2 (SHA-256 {MARKS[1]}…) signed none of the recent webhooks" in await said(api)
        assert "can go" not in await said(api)


async def test_no_secret_is_in_the_answer_or_in_a_row(rotating: Resources) -> None:
    async with client_of(rotating) as api:
        await heard(rotating, "evt_1", secret=OLD, hours_ago=2)

        assert "whsec" not in (await api.get("/health")).text


async def refuse(res: Resources, api: httpx.AsyncClient, *, times: int = 1, **how: Any) -> None:
    """Have deliveries refused, and their counts stored."""
    for _ in range(times):
        assert (await api.post("/webhooks/stripe", **delivery(**how))).status_code == 400
    await res.intake.refused.keep(res.engine)


async def refused(api: httpx.AsyncClient) -> tuple[str, str]:
    (found,) = [check for check in (await api.get("/health")).json()["checks"] if check["name"] == "deliveries_refused"]
    return found["status"], f"{found['detail']} → {found['advice']}"


async def test_a_wrong_secret_is_reported_with_the_number_and_what_to_do(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await refuse(res, api, secret="whsec_another", times=3)

    status, said = await refused(api)

    assert status == "degraded"
    assert said.startswith(
        "deliveries are refused, and none has been accepted since: default: 3 refused (bad_signature), the last "
    )
    assert "signing secret" in said
    assert statuses(await findings(res.settings))["deliveries_refused"] == "degraded"


async def test_a_corrected_secret_is_healthy_with_the_first_delivery(res: Resources, api: httpx.AsyncClient) -> None:
    await refuse(res, api, secret="whsec_another")

    await accept(res.intake, an_event())

    assert (await refused(api))[0] == "ok"


async def test_a_rolled_secret_is_reported_although_others_were_accepted_before(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await accept(res.intake, an_event())
    await execute(res, "update events set received_at = now() - interval '1 hour'")

    await refuse(res, api, secret="whsec_another")

    assert (await refused(api))[0] == "degraded"


async def test_noise_from_strangers_is_counted_and_alarms_nobody(res: Resources, api: httpx.AsyncClient) -> None:
    await refuse(res, api, secret="whsec_another")
    await execute(res, "update refused_deliveries set first_at = now() - interval '3 days'")
    await accept(res.intake, an_event())
    await execute(res, "update events set received_at = now() - interval '11 hours'")
    for header in ({}, {"Stripe-Signature": "junk"}):
        assert (await api.post("/webhooks/stripe", content=b"{}", headers=header)).status_code == 400
    await refuse(res, api, secret="whsec_another", times=20)

    status, said = await refused(api)

    assert status == "ok"
    assert "21 refused (bad_signature)" in said
    assert "2 refused (no_signature)" in said


async def test_a_clock_that_is_off_is_reported_by_the_deliveries_too(res: Resources, api: httpx.AsyncClient) -> None:
    await refuse(res, api, age=400)

    status, said = await refused(api)

    assert (status, "(wrong_time)" in said, "NTP" in said) == ("degraded", True, True)


async def test_however_many_are_refused_the_rows_are_one_per_account_and_reason(
    res: Resources, api: httpx.AsyncClient
) -> None:
    for number in range(3):
        await refuse(res, api, secret=f"whsec_{number}", times=5)

    assert [
        (row["account"], row["reason"], row["number"]) for row in await fetch(res, "select * from refused_deliveries")
    ] == [("default", "bad_signature", 15)]


async def test_refusals_that_the_database_rejects_are_kept_later(res: Resources) -> None:
    res.intake.refused.add("default", "bad_signature")
    away = make_engine("postgresql://nobody@127.0.0.1:1/none", pool_size=1)

    await res.intake.refused.keep(away)
    await res.intake.refused.keep(res.engine)

    assert (await fetch(res, "select number from refused_deliveries"))[0]["number"] == 1


async def test_refusals_are_kept_by_themselves(
    res: Resources, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inbox.refused.KEEP_SECONDS", 0.01)
    async with Intake(res.direct_url, res.settings) as intake:
        intake.refused.add("default", "bad_signature")

        await until_found(res, "select 1 from refused_deliveries")


async def test_counting_begins_again_after_a_day_of_quiet(res: Resources, api: httpx.AsyncClient) -> None:
    await refuse(res, api, secret="whsec_another", times=3)
    await execute(res, "update refused_deliveries set last_at = now() - interval '25 hours'")
    assert (await refused(api))[0] == "ok"

    await refuse(res, api, secret="whsec_another")

    assert "default: 1 refused (bad_signature)" in (await refused(api))[1]
