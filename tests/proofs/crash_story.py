"""A compact story that meets every step of the flow and the usual failures, and can end at any effect of it."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from app.errors import Conflict
from app.resources import Resources
from tests.proofs import announced
from tests.proofs.effects import Effect
from tests.proofs.promises import broken_promises, owed_days
from tests.proofs.stage import Stage, Step, everything_due, staged
from tests.service import REPORT_TYPE, add_rule, at, fetch
from tests.targets.stories import send_due

FIRST_DAY, DAYS = date(2026, 3, 1), 2
FILE_BYTES = 100_000
Side = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Told:
    """How a story went: all effects in order, where the service died, and which promises it broke."""

    effects: list[Effect]
    crashed_at: Effect | None
    broken: list[str]


async def tell(url: str, *, crash: tuple[int, Side] | None = None, folder: Path | None = None) -> Told:
    """Play the story on the database at `url`; with `crash`, the service dies right before or after that effect.

    With `folder`, an empty one, the files go there.
    """
    settings = {} if folder is None else {"TALLYHOOK_FILE_STORE": f"file://{folder}"}
    async with staged(url, **settings) as stage:
        if crash is not None:
            stage.effects.crash(*crash)
        _trouble(stage)
        await stage.start()
        await stage.live(lambda res: announced.add_target(res, stage.hook))
        await stage.live(_add_rule)
        stage.simulator.advance(REPORT_TYPE, to=at("2026-03-03"))
        await stage.live(everything_due)
        await stage.live(_deliver(stage))
        await stage.live(everything_due)
        for event in stage.post.waiting()[:1]:
            stage.post.lose(event)
        await stage.live(_deliver(stage))
        await stage.live(everything_due)
        await stage.settle()
        await stage.live(announced.send_again)
        for _ in range(2):
            await stage.live(send_due)
            await stage.time_passes(1)  # the lease of a dead process, if there is one, ends
        effects = list(stage.effects.seen)
        (rule,) = await fetch(stage.res, "select id from rules")
        owed = owed_days(rule["id"], FIRST_DAY, DAYS)
        broken = await broken_promises(stage.res, stage.simulator, owed=owed)
        broken += await announced.broken_about_messages(stage.res, stage.hook)
        broken += [] if folder is None else await _left_in(stage, folder)
        unstored = await fetch(stage.res, "select window_key, state, error from runs where state <> 'stored'")
        return Told(effects, stage.effects.crashed_at, broken + [f"not stored: {dict(run)}" for run in unstored])


async def _left_in(stage: Stage, folder: Path) -> list[str]:
    """What lies in the folder and belongs to no file, two days later."""
    await stage.time_passes(24)
    await stage.live(everything_due)
    await stage.time_passes(24)
    await stage.live(everything_due)
    known = {file["location"] for file in await fetch(stage.res, "select location from files")}
    return [f"{place} is left over" for place in _places_in(folder) - known]


def _places_in(folder: Path) -> set[str]:
    return {path.as_uri() for path in folder.rglob("*") if path.is_file()}


def _trouble(stage: Stage) -> None:
    """A busy moment, a create whose answer is lost, a Stripe run that fails; files cut, gone and too short; a
    target that answers 500, and then that it is gone."""
    simulator, create = stage.simulator, {"method": "POST", "path": "report_runs$"}
    simulator.report_type(REPORT_TYPE).bytes = FILE_BYTES
    simulator.inject("status", status=429, match=create)
    simulator.inject("cut", when="after", after=1, match=create)
    simulator.inject("run_fails", after=1)
    simulator.inject("file_cut", bytes=FILE_BYTES // 2)
    simulator.inject("file_gone", after=1)
    simulator.inject("file_short", after=2)
    stage.hook.answers = [500, 410]


def _deliver(stage: Stage) -> Step:
    return lambda res: stage.post.deliver_all(res.intake)


async def _add_rule(res: Resources) -> None:
    with suppress(Conflict):  # the service died after the commit, and the client asks again
        await add_rule(res, name="daily", starts_on=FIRST_DAY)
