"""What people get wrong over the API, and every word of the answers: they say what to do.

One database and one app for the whole table: it is read as one page, and takes three seconds.
"""

from typing import Any

import httpx

from app.resources import Resources
from app.upkeep.reconcile import reconcile

NOBODY = "00000000-0000-0000-0000-000000000000"
DAILY: dict[str, Any] = {
    "name": "daily", "report_type": "balance_change_from_activity.itemized.7", "cadence": "daily",
    "starts_on": "2026-10-01",
}  # fmt: skip
RUN: dict[str, Any] = {
    "report_type": "balance.summary.1", "interval_start": "2026-10-01T00:00:00Z", "interval_end": "2026-11-01T00:00:00Z"
}  # fmt: skip
FORM = "as a form"
ID = "01a1fe99-9c76-7009-9691-f1e842565f45"

Asked = tuple[str, str, Any]


def rule(**changes: Any) -> Asked:
    return "POST", "/v1/rules", {**DAILY, "name": "other", **changes}


def rule_without(field: str) -> Asked:
    return "POST", "/v1/rules", {name: value for name, value in rule()[2].items() if name != field}


def run(**changes: Any) -> Asked:
    return "POST", "/v1/runs", {name: value for name, value in {**RUN, **changes}.items() if value is not None}


def target(**changes: Any) -> Asked:
    return "POST", "/v1/targets", {"name": "t", "kind": "webhook", "url": "https://example.com/hook", **changes}


def get(path: str) -> Asked:
    return "GET", path, None


def backfill(**body: Any) -> Asked:
    return "POST", "/v1/rules/daily/backfill", body


NO_TYPE = "must be a report type as Stripe writes it, like balance.summary.1: see GET /v1/report-guide"
NO_OBJECT = "must be a JSON object, sent as Content-Type: application/json"
NO_KEY = "/kind: webhooks are signed: set TALLYHOOK_SIGNING_KEY first"
NO_SLUG = "must be the short name of an account, like default: lower-case letters, digits, `_` and `-`"
NOT_THERE = "the account does not have this report type (yet); its windows wait until it does"

REFUSED: list[tuple[Asked, int, str]] = [
    # A rule
    (rule(report_type="Balance.Summary.1"), 422, f"/report_type: {NO_TYPE}"),
    (rule(report_type="payouts"), 422, f"/report_type: {NO_TYPE}"),
    (rule(report_type=7), 422, "/report_type: must be text"),
    (
        rule(report_type="payout_reconciliation.by_id.itemized.4"), 422,
        "/cadence: must be `every_payout` for a report type that takes a payout (`….by_id.…`), and for no other",
    ),
    (
        rule(cadence="hourly"), 422,
        "/cadence: must be 'every_update', 'daily', 'weekly', 'monthly', 'quarterly', 'yearly' or 'every_payout'",
    ),
    (rule_without("cadence"), 422, "/cadence: is missing"),
    (rule(timezone="PST"), 422, "/timezone: is not an IANA time zone; did you mean America/Los_Angeles?"),
    (rule(timezone="Europe/Berln"), 422, "/timezone: is not an IANA time zone; did you mean Europe/Berlin?"),
    (rule(timezone="New York"), 422, "/timezone: must be an IANA time zone, like America/New_York"),
    (rule(timezone="Nowhere"), 422, "/timezone: is not an IANA time zone; use a name like Europe/Berlin"),
    (rule(starts_on="10/01/2026"), 422, "/starts_on: must be a date like 2026-10-01"),
    (rule(starts_on="2026-02-30"), 422, "/starts_on: is not a calendar date; write it like 2026-10-01"),
    (rule(starts_on="2026-10-01T00:00:00Z"), 422, "/starts_on: must be a date like 2026-10-01"),
    (rule(starts_on="1969-12-31"), 422, "/starts_on: must be 1970-01-01 or later"),
    (rule(settle_hours="2"), 422, "/settle_hours: must be a number, without quotes"),
    (rule(settle_hours=-1), 422, "/settle_hours: must be 0 or more"),
    (rule(enabled="yes"), 422, "/enabled: must be true or false, without quotes"),
    (rule(retention_days=0), 422, "/retention_days: must be 1 or more"),
    (rule(parameters=[]), 422, "/parameters: must be a JSON object: {…}"),
    (rule(parameters={"columns": "created,net"}), 422, "/parameters/columns: must be a list of names"),
    (
        rule(parameters={"interval_start": 1}), 422,
        "/parameters/interval_start: is set by Tallyhook for each window; remove it",
    ),
    (rule(connected_accounts="acct_1"), 422, "/connected_accounts: must be a list: […]"),
    (
        rule(connected_accounts=["acme"]), 422,
        "/connected_accounts/0: must be the id of a connected account, like acct_1032D82eZvKYlo2C",
    ),
    (
        rule(connected="none", connected_accounts=["acct_1"]), 422, "/connected: `none` cannot be used with"
        " `connected_accounts` or a type that begins with `connected_account_`",
    ),
    (
        rule(**{"except": ["acct_1"]}), 422,
        "/except: works only with `connected: each` or `together`; otherwise list the accounts that you want in"
        " `connected_accounts`",
    ),
    (rule(account="eu"), 422, "/account: is not configured; known accounts: default"),
    (rule(account="EU"), 422, f"/account: {NO_SLUG}"),
    (rule(name=""), 422, "/name: must not be empty"),
    (rule(reporttype="balance.summary.1"), 422, "/reporttype: is unknown: did you mean `report_type`?"),
    (rule(table={"state": "lead"}), 422, "/table/state: must be 'auto', 'leading', 'kept' or 'off'"),
    (
        rule(table={"private": []}), 422,
        "/table/private: is unknown: use one of `personal`, `state`",
    ),
    # The body
    (("POST", "/v1/rules", None), 422, f": {NO_OBJECT}"),
    (("POST", "/v1/rules", FORM), 422, f": {NO_OBJECT}"),
    (("POST", "/v1/rules", [DAILY]), 422, f": {NO_OBJECT}"),
    (("POST", "/v1/rules", "{name: daily}"), 422,
     ": is not valid JSON at character 1: Expecting property name enclosed in double quotes"),
    # One rule
    (get("/v1/rules/dayly"), 404, "there is no rule dayly: did you mean 'daily'?"),
    (get("/v1/rules/something-else"), 404, "there is no rule something-else: GET /v1/rules lists them"),
    (get(f"/v1/rules/{NOBODY}"), 404, f"there is no rule {NOBODY}: GET /v1/rules lists them"),
    (("PATCH", "/v1/rules/daily", {"cadence": None}), 422, "/cadence: cannot be null; omit it to keep its value"),
    (("PUT", "/v1/rules/daily", {}), 405, "this route accepts GET, PATCH, DELETE"),
    (backfill(), 422, "/from: is missing"),
    (backfill(**{"from": "2026-10-01"}), 422, "/to: is missing: give it, or `through`"),
    (
        backfill(**{"from": "2026-10-31", "to": "2026-10-01"}), 422,
        "/to: must be later than `from`, which is not included",
    ),
    (backfill(**{"from": "yesterday", "to": "2026-10-02"}), 422, "/from: must be a date like 2026-10-01"),
    (
        backfill(**{"from": "2026-10-01", "to": "2026-11-01", "through": "2026-10-31"}), 422,
        "/through: means the same as `to`: use only one of them",
    ),
    (
        get("/v1/rules/daily/coverage?until=2026-11-01"), 422,
        "until: is unknown: use one of `cursor`, `from`, `limit`, `through`, `to`",
    ),
    (
        get("/v1/rules/daily/files/yesterday"), 422,
        "date: must be a date like 2026-10-01, a time like 2026-10-01T09:30:00Z, or `latest`",
    ),
    (
        get("/v1/rules/daily/files/2026-09-30"), 404,
        "rule 'daily' owes no window that contains 2026-09-30: it starts on 2026-10-01",
    ),
    (
        get("/v1/rules/daily/files/8000-01-01"), 404,
        "rule 'daily' owes no window that contains 8000-01-01: that day is not over yet",
    ),
    (
        get("/v1/rules/daily/files/latest"), 404,
        "rule 'daily' has no stored file yet: GET /v1/rules/daily/coverage says why",
    ),
    # Runs
    (
        get("/v1/runs/daily"), 404,
        "there is no route /v1/runs/daily: `run_id` in /v1/runs/{run_id} must be an id; GET /v1/runs lists them",
    ),
    (get(f"/v1/runs/{NOBODY}"), 404, f"there is no run {NOBODY}: GET /v1/runs lists them"),
    (
        get("/v1/runs?state=done"), 422,
        "state: must be 'planned', 'requested', 'ready', 'stored', 'failed' or 'cancelled'",
    ),
    (get("/v1/runs?rule_id=daily"), 422, f"rule_id: must be an id like {ID}; `rule` takes a name"),
    (get("/v1/runs?limit=1000"), 422, "limit: must be 100 or less"),
    (
        get("/v1/runs?cursor=abc"), 422,
        "cursor: is not a cursor of this list; use the previous page's `next_cursor`",
    ),
    (get("/v1/runs?stored_after=yesterday"), 422, "stored_after: must be a time like 2026-10-01T07:00:00Z"),
    (
        get("/v1/runs?stored_after=2026-10-01T00:00:00"), 422,
        "stored_after: has no offset; write 2026-10-01T07:00:00Z, or +02:00 in place of Z",
    ),
    (get("/v1/runs?storedafter=2026-10-01"), 422, "storedafter: is unknown: did you mean `stored_after`?"),
    (get("/v1/runs?order=newest"), 422, "order: must be '-planned', '-window' or 'stored'"),
    (run(interval_start=None), 422, "/interval_start: is missing"),
    (run(interval_end="2026-09-01T00:00:00Z"), 422, "/interval_end: must be later than interval_start"),
    (run(interval_start=1760000000), 422, "/interval_start: must be a time like 2026-10-01T07:00:00Z"),
    (
        run(parameters={"interval_end": 3}), 422,
        "/parameters/interval_end: belongs outside `parameters`: use the field `interval_end`",
    ),
    (("POST", "/v1/runs/retry?state=stored", None), 422, "state: only failed or cancelled runs can be retried"),
    # Months
    (
        get("/v1/packs/2026-13.zip"), 404,
        "there is nothing at /v1/packs/2026-13.zip: `month` must be a month, like 2026-10",
    ),
    (get("/v1/packs/2026-10.zip?rule=dayly"), 404, "there is no rule dayly: did you mean 'daily'?"),
    # Targets
    (target(), 422, NO_KEY),
    (target(kind="webhok"), 422, "/kind: must be 'webhook', 'email', 'slack' or 'folder'"),
    (
        target(url="http://example.com/hook"), 422,
        f"{NO_KEY}; /url: must be https: http is for networks that TALLYHOOK_TARGET_NETWORKS opens",
    ),
    (target(url="example.com/hook"), 422, f"{NO_KEY}; /url: must be https://host/path"),
    (
        target(url="https://10.0.0.1/hook"), 422,
        f"{NO_KEY}; /url: 10.0.0.1 is not a public address: see TALLYHOOK_TARGET_NETWORKS",
    ),
    (
        target(message_types=["run.done"]), 422,
        f"{NO_KEY}; /message_types/0: 'run.done' is not a message type: see GET /v1/message-types",
    ),
    (target(message_types=[]), 422, "/message_types: must not be empty: leave it out to mean all"),
    (target(rules=["dayly"]), 422, "/rules/0: there is no rule 'dayly': see GET /v1/rules"),
    (
        target(kind="email", url=None, recipients=["books"]), 422,
        "/kind: e-mail needs TALLYHOOK_SMTP_URL and TALLYHOOK_MAIL_FROM;"
        " /recipients/0: must be an address like books@example.com",
    ),
    (
        target(kind="slack", url="finance"), 422,
        "/url: must be the name of one of TALLYHOOK_SLACK_URLS (none yet)",
    ),
    (
        target(kind="folder", url="/srv/reports"), 422,
        "/url: must be below one of TALLYHOOK_TARGET_FOLDERS (none: set it first)",
    ),
    # Elsewhere
    (("POST", "/v1/rules/apply", {}), 422, ": needs `rules`, `targets` or both, or else `yaml`"),
    (get("/v1/report-guide?account=eu"), 422, "account: eu is not configured; the accounts are: default"),
    (get("/v1/event"), 404, "there is no route /v1/event: did you mean /v1/events?"),
    (get("/v1/runs/"), 404, "there is no route /v1/runs/: did you mean /v1/runs?"),
    (get("/nowhere"), 404, "there is no route /nowhere: GET /docs lists them"),
    (("DELETE", "/v1/runs", None), 405, "this route accepts GET, POST"),
    (get("/v1/events/evt_1"), 404, "there is no event evt_1: GET /v1/events lists those that are kept"),
    (get("/v1/checks?verdict=bad"), 422, "verdict: must be 'agrees', 'differs' or 'not_comparable'"),
    (get("/v1/tables/balances"), 404, "there is no table 'balances': no file of such a report has been stored yet"),
]  # fmt: skip

# Allowed, because only Stripe knows better: made, and warned about.
WARNED: list[tuple[Asked, str]] = [
    (
        rule(report_type="balance_change_from_activity.itemized"),
        f"/report_type: {NOT_THERE}: did you mean balance_change_from_activity.itemized.7?",
    ),
    (
        rule(report_type="balance_change_from_activty.itemized.6"),
        f"/report_type: {NOT_THERE}: did you mean balance_change_from_activity.itemized.6?",
    ),
    (rule(report_type="my.own.1"), f"/report_type: {NOT_THERE}"),
    (rule(starts_on="8000-01-01"), "/starts_on: is in the future: nothing is requested before 8000-01-01"),
    (
        rule(parameters={"currency": "USD"}),
        "/parameters/currency: 'USD' is not a currency code as Stripe writes it, three lower-case letters: write 'usd'",
    ),
    (
        rule(parameters={"columns": ["created", "nett"]}),
        "/parameters/columns: 'nett' is not a column of any known report: did you mean 'net'?",
    ),
    (
        rule(parameters={"timezone": "PST"}),
        "/parameters/timezone: 'PST' is not an IANA time zone, and Stripe will refuse it;"
        " did you mean America/Los_Angeles?",
    ),
    (
        rule(timezone="Europe/Berlin"),
        "/parameters/timezone: the times in the file will be in UTC; add the parameter to have them in Europe/Berlin",
    ),
]


async def test_every_answer_to_a_wrong_request_says_what_to_do(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    await api.post("/v1/rules", json=DAILY)

    answers = [(asked, await _ask(api, asked)) for asked, _, _ in REFUSED]

    found = [(asked, answer.status_code, _said(answer)) for asked, answer in answers]
    assert [one for one in found if one not in REFUSED] == []


async def test_what_is_probably_a_mistake_is_made_and_warned_about(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    for asked, warning in WARNED:
        answer = await _ask(api, asked)

        assert answer.status_code == 201, (asked, answer.text)
        assert [f"{one['pointer']}: {one['detail']}" for one in answer.json()["warnings"]] == [warning]
        await api.delete(answer.headers["location"])


async def _ask(api: httpx.AsyncClient, asked: Asked) -> httpx.Response:
    method, path, body = asked
    if body == FORM:
        return await api.request(method, path, data={"name": "daily"})
    if isinstance(body, str):
        return await api.request(method, path, content=body, headers={"Content-Type": "application/json"})
    return await api.request(method, path, json=body)


def _said(answer: httpx.Response) -> str:
    problem = answer.json()
    return "; ".join(f"{one['pointer']}: {one['detail']}" for one in problem.get("errors", ())) or problem["detail"]
