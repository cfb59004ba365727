"""The child is killed before each thing that it sends to the database, and after its commits: nothing half done shows.

`make test` tries every fourth of these moments, `make sweep` all of them (PROOF_EVERY_STEP).
"""

import asyncio
import os
import time
from typing import Any

import psycopg

from app.db.engine import libpq_conninfo
from app.resources import Resources
from app.tables.load_file import How, load_file
from app.tables.loads import LoadClaim
from tests.service import execute, fetch
from tests.tables.stored import HEADER, claim_one, line, load_all, rows, rule, store

VIEW = "reports.balance_change_from_activity_itemized"
ROWS = "report_rows.balance_change_from_activity_itemized"
OLD, NEW = {"usd": "9.00"}, {"usd": "16.00"}


class Killed(BaseException):
    """What the kernel does to a process."""


class Mortal(psycopg.Connection[Any]):
    """A connection whose process dies before it sends its `at`-th thing to the server, or right after."""

    at: int | None = None
    after = False
    said = 0
    dead = False

    def wait(self, *args: Any, **options: Any) -> Any:
        """Everything that goes to the server comes through here: statements, pieces of a COPY, commits."""
        self._die_if(not self.after)
        answer = super().wait(*args, **options)
        self._die_if(self.after)
        self.said += 1
        return answer

    def _die_if(self, now: bool) -> None:
        if self.dead or (now and self.said == self.at):
            self.dead = True
            self.pgconn.finish()  # as the kernel does: without a word, and what was not committed is rolled back
            raise Killed


def load(res: Resources, claim: LoadClaim, *, at: int | None = None, after: bool = False) -> int | None:
    """Load as the child does, until it dies; returns how much was sent, None if it died."""
    conninfo = libpq_conninfo(res.engine.url.render_as_string(hide_password=False))
    with psycopg.connect(conninfo, autocommit=True) as reading, Mortal.connect(conninfo, autocommit=True) as writing:
        writing.said, writing.at, writing.after = 0, at, after
        backend = writing.info.backend_pid
        try:
            load_file(writing, reading, claim.id, claim.fence, How("reports", all_personal=False))
        except Killed:
            _until_gone(conninfo, backend)
            return None
        return writing.said


def _until_gone(conninfo: str, backend: int) -> None:
    """The server takes a moment to see that a client has died; until then what it had not committed keeps its locks."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while connection.execute("select 1 from pg_stat_activity where pid = %s", [backend]).fetchone():
            time.sleep(0.005)


async def sums(res: Resources) -> dict[str, str]:
    found = await fetch(res, f"select currency, sum(net)::text as net from {VIEW} group by 1")
    return {row["currency"]: row["net"] for row in found}


async def test_a_child_killed_at_any_step_leaves_the_old_revision_or_the_new_one(tables: Resources) -> None:
    rule_id = await rule(tables)
    await store(tables, rows(line(1)), rule_id=rule_id)
    more = rows(line(1, "7.00") + ",po_1,x", line(2) + ",po_1,y", header=f"{HEADER},automatic_payout_id,unheard_of")
    await store(tables, more, rule_id=rule_id, revision=2)
    await _only_the_first_is_loaded(tables)
    assert await sums(tables) == OLD
    steps = await asyncio.to_thread(load, tables, await claim_one(tables))
    assert steps is not None
    assert steps > 15
    assert await sums(tables) == NEW

    every = 1 if os.environ.get("PROOF_EVERY_STEP") else 4
    for step in (*range(0, steps - 1, every), steps - 1, steps):
        await _only_the_first_is_loaded(tables)
        at, after = min(step, steps - 1), step == steps
        assert await asyncio.to_thread(load, tables, await claim_one(tables), at=at, after=after) is None
        assert await sums(tables) == (NEW if after else OLD), step

        await execute(tables, "update loads set lease_until = null where state = 'due'")
        await load_all(tables)
        assert await sums(tables) == NEW
        (there,) = await fetch(tables, f"select count(*) as rows, count(distinct load_id) as loads from {ROWS}")
        assert (there["rows"], there["loads"], len(await fetch(tables, "select 1 from diffs"))) == (3, 2, 1)


async def _only_the_first_is_loaded(res: Resources) -> None:
    """The table is gone and made again by the first revision; the second has never been loaded."""
    await execute(res, f"drop table if exists {ROWS} cascade")
    for table in ("diffs", "load_sums"):
        await execute(res, f"delete from {table}")
    await execute(
        res,
        "update loads set state = 'due', loaded_at = null, is_current = false, leads = false, rows = null,"
        " lease_until = null, due_at = case revision when 1 then now() else now() + interval '1 day' end",
    )
    await load_all(res)
    await execute(res, "update loads set due_at = now() where state = 'due'")
