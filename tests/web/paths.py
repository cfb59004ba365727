"""Every page, each with something on it."""

from datetime import timedelta

from tests.web.books import Books


async def paths_of(morning: Books) -> dict[str, str]:
    """Their paths, by a name for each."""
    async with morning.api() as api:
        rules = {rule["name"]: rule["id"] for rule in (await api.get("/v1/rules")).json()["data"]}

        async def run_of(rule: str, **filters: str) -> str:
            query = {"limit": "1", "rule_id": rules[rule], **filters}
            return str((await api.get("/v1/runs", params=query)).json()["data"][0]["id"])

        stored = await run_of("activity-los-angeles", state="stored")
        event = (await api.get("/v1/events")).json()["data"][0]["id"]
        table = (await api.get("/v1/tables")).json()["data"][0]["name"]
        target = (await api.get("/v1/targets")).json()["data"][0]["id"]
        check = (await api.get("/v1/checks")).json()["data"][0]["id"]
        message = (await api.get("/v1/deliveries")).json()["data"][0]["message_id"]
        failed, rejected = (
            await run_of("payouts-one-failed", state="failed"),
            await run_of("balance-one-rejected", state="failed"),
        )
    rule = rules["activity-los-angeles"]
    return {
        "today": "/",
        "rules": "/rules",
        "rule": f"/rules/{rule}",
        "rule with a failure": f"/rules/{rules['payouts-one-failed']}",
        "rule whose data is late": f"/rules/{rules['tokyo-data-late']}",
        "rule of a type that is missing": f"/rules/{rules['no-such-type']}",
        "weekly rule": f"/rules/{rules['reconciled-weekly']}",
        "monthly rule": f"/rules/{rules['activity-monthly']}",
        "rule that is off": f"/rules/{rules['switched-off']}",
        "rule of two accounts": f"/rules/{rules['marketplace']}",
        "day of two accounts": f"/rules/{rules['marketplace']}/days/{morning.today - timedelta(days=2):%Y-%m-%d}",
        "rule whose key is refused": f"/rules/{rules['eu-payouts']}",
        "runs": "/runs",
        "failed runs": "/runs?state=failed",
        "no runs": "/runs?account=nowhere",
        "stored run": f"/runs/{stored}",
        "failed run": f"/runs/{failed}",
        "rejected run": f"/runs/{rejected}",
        "retry": f"/runs/{failed}/retry",
        "cancel": f"/runs/{failed}/cancel",
        "backfill": f"/rules/{rule}/backfill",
        "backfill, counted": f"/rules/{rule}/backfill?from=2026-11-01&through=2026-11-20&rerun=yes",
        "make what is missing": f"/rules/{rules['payouts-one-failed']}/missing",
        "switch off": f"/rules/{rule}/disable",
        "switch on": f"/rules/{rules['switched-off']}/enable",
        "delete": f"/rules/{rule}/delete",
        "new rule": "/rules/new",
        "change a rule": f"/rules/{rule}/edit",
        "month": f"/months/{morning.today - timedelta(days=morning.today.day):%Y-%m}",
        "this month": f"/months/{morning.today:%Y-%m}",
        "month of nothing": "/months/2020-01",
        "events": "/events",
        "event": f"/events/{event}",
        "audit": "/audit",
        "tables": "/tables",
        "table": f"/tables/{table}",
        "checks": "/checks",
        "all checks": "/checks?verdict=all",
        "check": f"/checks/{check}",
        "note": f"/checks/{check}/note",
        "targets": "/targets",
        "target": f"/targets/{target}",
        "new target": "/targets/new",
        "change a target": f"/targets/{target}/edit",
        "test a target": f"/targets/{target}/test",
        "deliveries": "/deliveries",
        "message": f"/messages/{message}",
        "accounts": "/accounts",
        "setup": "/setup",
        "report types": "/report-types",
    }
