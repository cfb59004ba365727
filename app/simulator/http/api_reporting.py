"""`/v1/reporting/…`: report types and report runs."""

from app.simulator import errors
from app.simulator.http import report_parameters as parameters
from app.simulator.http.calls import Answer, Call, answer
from app.simulator.http.lists import CURSORS, page, refuse_unknown
from app.simulator.runs import arrange_end, end_run, make_run, plan_for
from app.simulator.state.model import Run

RUNS = "/v1/reporting/report_runs"


def list_types(call: Call) -> Answer:
    kinds = [
        kind.rendered() for kind in call.account.report_types.values() if call.account.livemode or not kind.live_only
    ]
    return answer({"object": "list", "data": kinds, "has_more": False, "url": "/v1/reporting/report_types"})


def retrieve_type(call: Call) -> Answer:
    return answer(parameters.report_type_of(call.account, call.names["id"]).rendered())


def create_run(call: Call) -> Answer:
    """The answer shows the run as it is at this moment; its end comes after the answer."""
    world, account = call.world, call.account
    kind = parameters.wanted_type(account, call.form)
    wanted = parameters.wanted_parameters(kind, call.form)
    if wanted.get("connected_account") in account.left:
        raise errors.no_access(call.key.secret, wanted["connected_account"])
    run = make_run(world, account, kind=kind, parameters=wanted, owner=call.owner, key=call.idempotency_key)
    plan = plan_for(world, account, kind)
    if plan.instant:
        end_run(world, account, run, plan)
        return answer(run.rendered())
    pending = answer(run.rendered())
    if plan.early:
        pending.after = end_run(world, account, run, plan)
    else:
        pending.then = lambda: arrange_end(world, account, run, plan)
    return pending


def retrieve_run(call: Call) -> Answer:
    run = call.account.runs.get(call.names["id"])
    if run is None or run.owner != call.owner:
        raise errors.not_found("report run", call.names["id"])
    return answer(run.rendered())


def list_runs(call: Call) -> Answer:
    refuse_unknown(call.form, CURSORS | {"created"})
    owner = call.owner
    runs = call.account.runs
    return answer(
        page(runs, call.form, kind="report run", url=RUNS, render=Run.rendered, fits=lambda run: run.owner == owner)
    )
