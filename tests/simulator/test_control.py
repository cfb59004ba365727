"""The control routes: the simulator's methods over HTTP, for those who do not write Python."""

import asyncio
import os
import signal
import socket
import sys

import httpx
import pytest

from app.simulator import Simulator, serve
from tests.ports import held_port
from tests.simulator.asking import DAY, RUNS, SUMMARY, a_day, create
from tests.simulator.conftest import KEY
from tests.simulator.receiver import Receiver
from tests.until import until

PROGRAM = """
import asyncio, functools
from app.simulator import run_forever
asyncio.run(run_forever(0, webhook="http://127.0.0.1:9/", say=functools.partial(print, flush=True)))
"""


async def control(client: httpx.AsyncClient, path: str, **body: object) -> httpx.Response:
    return await client.post(f"/_control/{path}", json=body)


async def test_a_whole_story_can_be_told_by_control_routes(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver
) -> None:
    await control(client, "settings", outcome="hang")
    end = simulator.report_type(SUMMARY).data_available_end + DAY
    advanced = await control(client, f"report_types/{SUMMARY}/advance", to=end)
    created = (await create(client, a_day(simulator), key="one")).json()
    done = await control(client, f"runs/{created['id']}", bytes=5_000)
    settled = await control(client, "settle", timeout=10)

    state = (await client.get("/_control/state")).json()
    account = state["accounts"][0]
    assert advanced.json()["data_available_end"] == end
    assert (done.json()["status"], done.json()["result"]["size"]) == ("succeeded", 5_000)
    assert settled.json() is True
    assert account["counts"] == {"runs": 1, "files": 1, "events": 2, "deliveries": 2}
    assert [record["idempotency_key"] for record in state["creates"]] == ["one"]
    assert state["calls_by_route"] == {"create_run": 1}
    assert {delivery["status"] for delivery in account["deliveries"]} == {"delivered"}
    assert account["keys"][0]["secret"] == KEY
    assert len(receiver.received) == 2


async def test_a_fault_is_given_by_a_control_route(client: httpx.AsyncClient, simulator: Simulator) -> None:
    answer = await control(client, "faults", fault="status", status=503, match={"path": "account"}, times=None)

    assert answer.json()["fault"] == "status"
    assert (await client.get("/v1/account")).status_code == 503
    await client.delete("/_control/faults")
    assert (await client.get("/v1/account")).status_code == 200


async def test_accounts_keys_types_and_endpoints_are_made_by_control_routes(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver
) -> None:
    await control(client, "accounts", name="eu", livemode=True, catalogue=False)
    await control(client, "keys", secret="rk_live_files", account="eu", permissions=["files"])
    await control(client, "keys/sk_live_simulator_eu", revoked=True)
    made = await control(
        client, "report_types", id="payouts.itemized.9", account="eu", start=0, end="2026-03-01T00:00Z"
    )
    endpoint = await control(client, "endpoints", url=receiver.url, account="eu", secrets=["whsec_eu"])
    rolled = await control(client, f"endpoints/{endpoint.json()['id']}/roll", keep_seconds=60)
    await control(client, f"endpoints/{endpoint.json()['id']}", enabled=False)

    account = simulator.account("eu")
    assert [(key.secret, key.revoked, key.permissions == {"files"}) for key in account.keys] == [
        ("sk_live_simulator_eu", True, False),
        ("rk_live_files", False, True),
    ]
    assert (made.json()["data_available_start"], made.json()["data_available_end"]) == (0, 1772323200)
    assert list(account.report_types) == ["payouts.itemized.9"]
    stored = account.endpoints[endpoint.json()["id"]]
    assert [secret.value for secret in stored.secrets] == [rolled.json(), "whsec_eu"]
    assert stored.enabled is False


async def test_other_events_runs_and_files_are_made_by_control_routes(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver
) -> None:
    endpoint = next(iter(simulator.account().endpoints))
    await control(client, f"endpoints/{endpoint}", events=["*"])
    end = simulator.report_type(SUMMARY).data_available_end
    run = await control(
        client, "runs", report_type=SUMMARY, parameters={"interval_start": end - DAY, "interval_end": end}
    )
    file = simulator.files[0]
    await control(client, f"files/{file.id}/expire")
    await control(client, "events", type="charge.succeeded", object={"id": "ch_1"}, livemode=True)
    await control(client, "settle")
    await control(client, f"events/{simulator.events[0].id}/resend")
    await control(client, "settle")

    assert run.json()["status"] == "succeeded"
    assert (await client.get(f"/v1/files/{file.id}/contents")).status_code == 404
    assert sorted(receiver.types) == ["charge.succeeded"] + ["reporting.report_run.succeeded"] * 2
    assert [event["livemode"] for event in receiver.events if event["type"] == "charge.succeeded"] == [True]


async def test_the_clock_is_set_advanced_and_stopped(client: httpx.AsyncClient, simulator: Simulator) -> None:
    stopped = (await control(client, "clock", to=1_772_409_600, stopped=True)).json()
    advanced = (await control(client, "clock", advance=60)).json()
    created = (await create(client, a_day(simulator))).json()
    running = (await control(client, "clock", stopped=False)).json()

    assert stopped == {"now": 1_772_409_600, "stopped": True}
    assert advanced == {"now": 1_772_409_660, "stopped": True}
    assert created["created"] == 1_772_409_660
    assert running["stopped"] is False
    assert simulator.now >= 1_772_409_660


async def test_a_reset_forgets_what_happened_but_not_who_there_is(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    first = await create(client, a_day(simulator), key="one")
    simulator.inject("status", times=None)
    simulator.set_clock(advance=9 * DAY)

    await control(client, "reset")

    assert (await client.get(RUNS)).json()["data"] == []
    again = await create(client, a_day(simulator), key="one")
    assert again.json()["id"] != first.json()["id"]
    assert len(simulator.account().endpoints) == 1
    assert abs(simulator.now - first.json()["created"]) < DAY


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("clock", {"speed": 2}, "speed"),
        ("faults", {"fault": "flood"}, "fault"),
        ("faults", {"fault": "cut", "match": {"colour": "red"}}, "colour"),
        ("settings", {"colour": "red"}, "colour"),
        ("settings", {"outcome": "maybe"}, "outcome"),
        ("report_types", {"id": SUMMARY, "account": "nobody"}, "nobody"),
        ("runs/frr_unknown", {}, "frr_unknown"),
        ("endpoints", {}, "url"),
        ("accounts", {"name": "default"}, "default"),
        ("events/release", {"order": "sideways"}, "order"),
        ("clock", {"to": "2026-03-01T00:00:00"}, "zone"),
        ("report_types/none.1/advance", {"to": 1}, "none.1"),
    ],
)
async def test_a_control_call_that_makes_no_sense_is_refused_in_words(
    client: httpx.AsyncClient, path: str, body: dict[str, object], words: str
) -> None:
    answer = await client.post(f"/_control/{path}", json=body)

    assert answer.status_code == 400
    assert words in answer.text


async def test_the_control_routes_explain_themselves(client: httpx.AsyncClient) -> None:
    overview = await client.get("/_control")
    unknown = await client.post("/_control/nonsense")

    routes = overview.json()["routes"]
    assert "Sets the clock" in routes["POST /_control/clock"]
    assert all(routes.values())
    assert (overview.status_code, unknown.status_code) == (200, 404)
    assert unknown.json()["routes"] == routes


async def test_a_control_body_has_to_be_a_json_object(client: httpx.AsyncClient) -> None:
    for body in ("[1]", "{", "\xff"):
        assert (await client.post("/_control/clock", content=body)).status_code == 400


async def test_a_server_stops_at_once_with_calls_in_flight() -> None:
    simulator = Simulator()
    simulator.inject("slow", seconds=600)
    async with httpx.AsyncClient(trust_env=False) as client:
        async with serve(simulator) as base_url:
            hanging = asyncio.create_task(client.get(f"{base_url}/v1/account"))
            await until(lambda: simulator.faults[0].struck)
        with pytest.raises(httpx.TransportError):
            await hanging


async def test_a_simulator_can_be_served_again_on_the_same_port(receiver: Receiver) -> None:
    simulator = Simulator()
    simulator.add_endpoint(receiver.url)
    with held_port() as port:
        async with serve(simulator, port=port) as first:
            pass
        simulator.publish(until=simulator.report_type(SUMMARY).data_available_end + DAY)

        async with serve(simulator, port=port) as second:
            await simulator.settle()

    assert second == first
    assert receiver.received


async def test_the_command_says_how_to_use_it_and_ends_cleanly() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    text = (await process.stdout.readuntil(b"Ctrl+C")).decode()
    base_url = next(word for word in text.split() if word.startswith("http://127.0.0.1:"))

    async with httpx.AsyncClient(auth=("sk_live_simulator_live", ""), timeout=30, trust_env=False) as client:
        answer = await client.get(f"{base_url}/v1/account")
    process.send_signal(signal.SIGTERM)
    _, errors = await process.communicate()

    assert answer.status_code == 200
    assert "STRIPE_WEBHOOK_SECRET=whsec_simulator_default" in text
    assert (process.returncode, errors) == (0, b"")


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="address already in use"):
        async with serve(Simulator(), port=taken.getsockname()[1]):
            pass
