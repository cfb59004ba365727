"""Every page that there is, with something on it."""

from tests.web.books import Books


async def paths_of(morning: Books) -> dict[str, str]:
    """Their paths, by a name for each."""
    async with morning.api() as api:
        rules = {rule["name"]: rule["id"] for rule in (await api.get("/v1/rules")).json()["data"]}

        async def run_of(rule: str, **filters: str) -> str:
            query = {"limit": "1", "rule_id": rules[rule], **filters}
            return str((await api.get("/v1/runs", params=query)).json()["data"][0]["id"])

        stored = await run_of("activity-los-angeles", state="stored")
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
    }
