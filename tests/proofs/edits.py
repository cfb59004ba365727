"""Rules that are edited just while they are planned, and whether every run has the values of its rule at that time."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from app import handlers
from app.planning.report_types import OWN_FIELDS
from app.resources import Resources
from app.rules import changes, store
from app.rules.slices import work_slice
from tests.runs.stories import somebody_waits_for_a_lock

PLANNED = """
select runs.id, runs.rule_id, runs.window_key, runs.parameters, runs.timezone, move.reason, move.at
from runs cross join lateral (
    select reason, at from run_moves where run_id = runs.id and to_state = 'planned'
        and (from_state is null or reason like 'retried by %') order by run_moves.id desc limit 1
) as move where rule_id is not null
"""
SAID = "select subject, at, after from audit where action in ('rule.created', 'rule.changed') order by id"


async def edited_beside_planning(res: Resources, rule_id: UUID, edit: Mapping[str, Any]) -> None:
    """Change the rule; planning begins before that is committed, and either waits for it or passes the rule over."""
    async with res.sessions.begin() as session:
        rule = await store.get(session, rule_id, lock=True)
        wanted = replace(store.values_of(rule), **edit)
        await changes.change(session, rule, wanted, settings=res.settings, by="the search")
        planning = asyncio.create_task(_plan(res))
        waits = asyncio.create_task(somebody_waits_for_a_lock(res))
        await asyncio.wait({planning, waits}, return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
    await planning


async def _plan(res: Resources) -> None:
    await handlers.drain(res)
    await work_slice(res)


def of_other_values(planned: Sequence[Any], said: Sequence[Any]) -> Iterator[str]:
    """Runs with values that their rule did not have when they were planned (rows of PLANNED and SAID)."""
    for run in planned:
        rule: dict[str, Any] = {}
        for change in said:
            if change["subject"] == str(run["rule_id"]) and change["at"] <= run["at"]:
                rule |= change["after"]
        parameters = {name: value for name, value in run["parameters"].items() if name not in OWN_FIELDS}
        if parameters != rule["parameters"]:
            yield f"run {run['window_key']} has {parameters}, and its rule said {rule['parameters']}: {run['reason']}"
        if run["timezone"] != rule["timezone"]:
            yield f"run {run['window_key']} is in {run['timezone']}, and its rule said {rule['timezone']}"
        if run["reason"] == "the window is due" and not rule["enabled"]:
            yield f"run {run['window_key']} was planned for a rule that was disabled"
