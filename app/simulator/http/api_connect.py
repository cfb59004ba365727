"""`/v1/account`, `/v1/accounts` (those connected to the platform) and `/v1/payouts`."""

from app.simulator import errors
from app.simulator.http.calls import Answer, Call, answer
from app.simulator.http.lists import CURSORS, created_since, page, refuse_unknown
from app.simulator.payouts import payouts_of
from app.simulator.state.collection import Collection
from app.simulator.state.connected import ConnectedAccount, PayoutObject


def retrieve_account(call: Call) -> Answer:
    return answer(
        {
            "id": call.owner or call.account.id,
            "object": "account",
            "business_profile": {"name": f"Simulated account {call.account.name}"},
            "charges_enabled": True,
            "country": "DE",
            "default_currency": "eur",
            "details_submitted": True,
            "email": None,
            "payouts_enabled": True,
            "settings": {"dashboard": {"display_name": call.account.name, "timezone": "Etc/UTC"}},
            "type": "standard",
        }
    )


def list_accounts(call: Call) -> Answer:
    refuse_unknown(call.form, CURSORS | {"created"})
    # A connected account has no connected accounts.
    connected = Collection[ConnectedAccount]() if call.owner else call.account.connected
    return answer(
        page(
            connected,
            call.form,
            kind="account",
            url="/v1/accounts",
            render=ConnectedAccount.rendered,
            fits=lambda account: True,
        )
    )


def retrieve_connected(call: Call) -> Answer:
    if call.names["id"] == call.account.id:
        return retrieve_account(call)
    connected = call.account.connected.get(call.names["id"])
    if connected is None:
        raise errors.no_access(call.key.secret, call.names["id"])
    return answer(connected.rendered())


def list_payouts(call: Call) -> Answer:
    """Newest first, by creation; the only filters are `status` and `created`."""
    refuse_unknown(call.form, CURSORS | {"created", "arrival_date", "status", "destination"})
    status = call.form.get("status")
    found = payouts_of(call.world, call.account, owner=call.owner, since=created_since(call.form.get("created")))
    return answer(
        page(
            found,
            call.form,
            kind="payout",
            url="/v1/payouts",
            render=PayoutObject.rendered,
            fits=lambda payout: status in (None, payout.status),
        )
    )


def retrieve_payout(call: Call) -> Answer:
    found = payouts_of(call.world, call.account, owner=call.owner, since=0).get(call.names["id"])
    if found is None:
        raise errors.not_found("payout", call.names["id"], param="payout")
    return answer(found.rendered())
