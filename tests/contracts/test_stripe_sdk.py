"""The real `stripe` SDK against the simulator over real HTTP: what an integration does with the SDK works here too."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import stripe
from stripe.params.reporting import ReportRunCreateParams

from app.simulator import Simulator, serve
from app.simulator.faults import When
from tests.simulator.receiver import Receiver, receiving

KEY = "sk_test_simulator_default"
SUMMARY = "balance.summary.1"
DAY = 86400


@pytest.fixture(autouse=True)
def quiet_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No telemetry, which would write a file into the home directory, and no proxy of the environment."""
    monkeypatch.setattr(stripe, "enable_telemetry", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as endpoint:
        yield endpoint


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    simulator = Simulator()
    async with serve(simulator):
        yield simulator


def sdk(simulator: Simulator, http_client: stripe.HTTPClient | None, *, key: str = KEY) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        base_addresses={"api": simulator.base_url, "files": simulator.base_url},
        http_client=http_client,
        max_network_retries=0,
    )


@pytest.fixture
async def http_client() -> AsyncIterator[stripe.HTTPXClient]:
    client = stripe.HTTPXClient(verify_ssl_certs=False)
    yield client
    await client.close_async()  # type: ignore[no-untyped-call]  # the SDK has not annotated it


@pytest.fixture
def client(simulator: Simulator, http_client: stripe.HTTPXClient) -> stripe.StripeClient:
    return sdk(simulator, http_client)


def a_day(simulator: Simulator) -> ReportRunCreateParams:
    end = simulator.report_type(SUMMARY).data_available_end
    return {
        "report_type": SUMMARY,
        "parameters": {
            "interval_start": end - DAY,
            "interval_end": end,
            "timezone": "Europe/Berlin",
            "columns": ["category", "net_amount"],
        },
    }


async def test_report_types_are_listed_and_read(client: stripe.StripeClient, simulator: Simulator) -> None:
    listed = await client.v1.reporting.report_types.list_async()
    one = await client.v1.reporting.report_types.retrieve_async(SUMMARY)

    assert SUMMARY in [kind.id for kind in listed.data]
    assert one.object == "reporting.report_type"
    assert one.data_available_end == simulator.report_type(SUMMARY).data_available_end
    assert one.default_columns == ["category", "currency", "description", "net_amount"]
    assert one.version == 1


async def test_a_run_is_made_watched_and_its_file_read(
    client: stripe.StripeClient, http_client: stripe.HTTPXClient, simulator: Simulator
) -> None:
    created = await client.v1.reporting.report_runs.create_async(a_day(simulator))
    run = await client.v1.reporting.report_runs.retrieve_async(created.id)

    assert (created.status, run.status) == ("pending", "succeeded")
    assert created.parameters.columns == ["category", "net_amount"]
    assert created.last_response is not None
    assert created.last_response.request_id
    assert run.result is not None
    assert run.result.url is not None
    file = await client.v1.files.retrieve_async(run.result.id)
    async with httpx.AsyncClient(timeout=30, verify=False, trust_env=False) as downloader:
        contents = await downloader.get(run.result.url, headers={"Authorization": f"Bearer {KEY}"})
    assert (file.size, file.purpose) == (len(contents.content), "finance_report_run")


async def test_the_list_of_runs_pages_by_itself(client: stripe.StripeClient, simulator: Simulator) -> None:
    made = [(await client.v1.reporting.report_runs.create_async(a_day(simulator))).id for _ in range(7)]

    pages = await client.v1.reporting.report_runs.list_async({"limit": 3, "created": {"gte": 1}})
    listed = [run.id async for run in pages.auto_paging_iter()]
    backwards = await client.v1.reporting.report_runs.list_async({"limit": 3, "ending_before": made[0]})
    oldest_first = [run.id async for run in backwards.auto_paging_iter()]

    assert listed == made[::-1]
    assert oldest_first == made[1:]


async def test_the_default_client_of_the_sdk_is_served_as_well(simulator: Simulator) -> None:
    def work() -> list[str]:
        client = sdk(simulator, stripe.RequestsClient())
        made = client.v1.reporting.report_runs.create(a_day(simulator))
        return [made.id, *(run.id for run in client.v1.reporting.report_runs.list().auto_paging_iter())]

    made, *listed = await asyncio.to_thread(work)

    assert listed == [made]


async def test_a_refused_parameter_is_named(client: stripe.StripeClient, simulator: Simulator) -> None:
    wanted = a_day(simulator)
    wanted["parameters"]["interval_end"] = 4_102_444_800

    with pytest.raises(stripe.InvalidRequestError) as caught:
        await client.v1.reporting.report_runs.create_async(wanted)

    assert caught.value.param == "parameters.interval_end"
    assert caught.value.http_status == 400
    assert "only available through" in (caught.value.user_message or "")
    assert caught.value.request_id


async def test_what_does_not_exist_is_an_invalid_request(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await client.v1.reporting.report_runs.retrieve_async("frr_1?x")

    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")


@pytest.mark.parametrize("revoked", [True, False], ids=["revoked", "unknown"])
async def test_a_bad_key_is_an_authentication_error(
    simulator: Simulator, http_client: stripe.HTTPXClient, revoked: bool
) -> None:
    simulator.change_key(KEY, revoked=True)
    client = sdk(simulator, http_client, key=KEY if revoked else "sk_test_unknown")

    with pytest.raises(stripe.AuthenticationError) as caught:
        await client.v1.reporting.report_types.list_async()

    # The SDK leaves `code` of this class empty: it is only in the body.
    assert caught.value.error is not None
    assert caught.value.error.code == ("api_key_expired" if revoked else None)


async def test_a_missing_permission_is_a_permission_error(client: stripe.StripeClient, simulator: Simulator) -> None:
    simulator.change_key(KEY, permissions={"files"})

    with pytest.raises(stripe.PermissionError, match="report_runs_and_report_types_read"):
        await client.v1.reporting.report_types.list_async()


async def test_too_many_calls_are_a_rate_limit_error(client: stripe.StripeClient, simulator: Simulator) -> None:
    simulator.inject("status", status=429)

    with pytest.raises(stripe.RateLimitError) as caught:
        await client.v1.reporting.report_types.list_async()

    assert caught.value.headers is not None
    assert caught.value.headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"


@pytest.mark.parametrize("status", [409, 500, 502, 503])
async def test_a_server_error_is_an_api_error(client: stripe.StripeClient, simulator: Simulator, status: int) -> None:
    simulator.inject("status", status=status)

    with pytest.raises(stripe.APIError) as caught:
        await client.v1.reporting.report_types.list_async()

    assert caught.value.http_status == status


async def test_a_key_used_for_something_else_is_an_idempotency_error(
    client: stripe.StripeClient, simulator: Simulator
) -> None:
    await client.v1.reporting.report_runs.create_async(a_day(simulator), {"idempotency_key": "one"})
    other = a_day(simulator)
    other["parameters"]["timezone"] = "Asia/Tokyo"

    with pytest.raises(stripe.IdempotencyError):
        await client.v1.reporting.report_runs.create_async(other, {"idempotency_key": "one"})


async def test_a_repeated_create_is_answered_from_memory(client: stripe.StripeClient, simulator: Simulator) -> None:
    first, again = [
        await client.v1.reporting.report_runs.create_async(a_day(simulator), {"idempotency_key": "one"})
        for _ in range(2)
    ]

    assert again.id == first.id
    assert again.last_response is not None
    assert again.last_response.idempotency_key == "one"
    assert again.last_response.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(("when", "runs"), [("before", 0), ("after", 1)])
async def test_a_cut_connection_is_a_connection_error(
    client: stripe.StripeClient, simulator: Simulator, when: When, runs: int
) -> None:
    simulator.inject("cut", when=when)

    with pytest.raises(stripe.APIConnectionError) as caught:
        await client.v1.reporting.report_runs.create_async(a_day(simulator))

    assert caught.value.should_retry
    assert len(simulator.runs) == runs


async def test_the_sdks_own_retry_makes_one_run_of_a_lost_answer(
    client: stripe.StripeClient, simulator: Simulator
) -> None:
    simulator.inject("cut", when="after")

    created = await client.v1.reporting.report_runs.create_async(a_day(simulator), {"max_network_retries": 1})

    assert [run.id for run in simulator.runs] == [created.id]
    assert len({record.idempotency_key for record in simulator.creates}) == 1
    assert [record.status for record in simulator.creates] == [0, 200]


async def test_a_delivery_is_verified_and_read_by_the_sdk(
    client: stripe.StripeClient, simulator: Simulator, receiver: Receiver
) -> None:
    endpoint = await client.v1.webhook_endpoints.create_async(
        {"url": receiver.url, "enabled_events": ["reporting.report_run.succeeded", "reporting.report_type.updated"]}
    )
    secret = endpoint["secret"]
    created = await client.v1.reporting.report_runs.create_async(a_day(simulator))
    await simulator.settle()

    delivery = receiver.received[0]
    assert stripe.WebhookSignature.verify_header(delivery.body, delivery.signature, secret, tolerance=300)
    event = client.construct_event(delivery.body, delivery.signature, secret)
    assert event.type == "reporting.report_run.succeeded"
    assert event.data.object["id"] == created.id
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(delivery.body + b" ", delivery.signature, secret)


async def test_webhook_endpoints_are_made_read_changed_and_deleted(
    client: stripe.StripeClient, receiver: Receiver
) -> None:
    service = client.v1.webhook_endpoints
    made = await service.create_async(
        {"url": receiver.url, "enabled_events": ["*"], "description": "first", "metadata": {"a": "1", "b": "2"}}
    )
    read = await service.retrieve_async(made.id)
    changed = await service.update_async(
        made.id, {"disabled": True, "enabled_events": ["reporting.report_type.updated"], "metadata": {"a": ""}}
    )
    listed = await service.list_async()
    deleted = await service.delete_async(made.id)

    assert made["secret"].startswith("whsec_")
    assert "secret" not in read
    assert (read.status, read.description) == ("enabled", "first")
    assert (changed.status, changed.enabled_events) == ("disabled", ["reporting.report_type.updated"])
    assert changed.metadata.to_dict() == {"b": "2"}
    assert [endpoint.id for endpoint in listed.data] == [made.id]
    assert deleted.deleted
    assert (await service.list_async()).data == []
    with pytest.raises(stripe.InvalidRequestError):
        await service.retrieve_async(made.id)


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"url": "example.com/hook", "enabled_events": ["*"]}, "url"),
        ({"url": "http://127.0.0.1/", "enabled_events": ["everything"]}, "enabled_events[0]"),
    ],
)
async def test_a_webhook_endpoint_that_makes_no_sense_is_refused(
    client: stripe.StripeClient, params: stripe.params.WebhookEndpointCreateParams, param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await client.v1.webhook_endpoints.create_async(params)

    assert caught.value.param == param


async def test_events_are_listed_by_type_and_read_one_by_one(client: stripe.StripeClient, simulator: Simulator) -> None:
    await client.v1.reporting.report_runs.create_async(a_day(simulator))
    simulator.publish(until=simulator.report_type(SUMMARY).data_available_end + DAY)

    updates = await client.v1.events.list_async({"types": ["reporting.report_type.updated"], "limit": 5})
    one = await client.v1.events.retrieve_async(updates.data[0].id)
    every = [event.type async for event in updates.auto_paging_iter()]

    assert len(every) == sum(not kind.live_only for kind in simulator.account().report_types.values())
    assert set(every) == {"reporting.report_type.updated"}
    assert one.data.object["object"] == "reporting.report_type"
    assert one.data.previous_attributes is not None


async def test_the_account_behind_the_key_is_known(client: stripe.StripeClient, simulator: Simulator) -> None:
    account = await client.v1.accounts.retrieve_current_async()

    assert account.id == simulator.account().id
