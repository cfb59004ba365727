"""The full sweep (`make sweep`): the service dies right before and right after every effect; prints a report."""

import asyncio
import logging
import os
import sys
import time
from collections import Counter
from itertools import groupby

import structlog

from app.db.migrate import migrate
from tests.database import FOLDER_VARIABLE, fresh_database, run_folder, running_server
from tests.proofs.crash_story import Side, Told, tell
from tests.proofs.effects import Effect

SIDES: tuple[Side, ...] = ("before", "after")


async def sweep(url: str) -> int:
    """Tell the story once for each side of each effect; returns how many times a promise was broken."""
    began = time.monotonic()
    effects = (await tell(url)).effects
    bad = 0
    for effect in effects:
        for side in SIDES:
            told = await tell(url, crash=(effect.number, side))
            bad += not _went_well(told)
            if not _went_well(told):
                say(f"\nright {side} {effect}: {told.broken or 'the story did not come to it'}")
        sys.stderr.write(f"\r{effect.number} of {len(effects)} effects")
    say(f"\n\n{report(effects)}\n")
    say(f"{len(effects)} effects, {2 * len(effects)} crashes, {bad} stories that broke a promise, ", end="")
    say(f"{time.monotonic() - began:.0f} s")
    return bad


def report(effects: list[Effect]) -> str:
    """The places at which it can die: how often each is reached, by kind."""
    counts = Counter((effect.kind, effect.place) for effect in effects)
    lines = []
    for kind, places in groupby(sorted(counts), key=lambda place: place[0]):
        named = list(places)
        lines.append(f"{kind}: {sum(counts[place] for place in named)}")
        lines += [f"  {counts[place]:3}  {place[1]}" for place in named]
    return "\n".join(lines)


def say(text: str, *, end: str = "\n") -> None:
    sys.stdout.write(text + end)


def _went_well(told: Told) -> bool:
    return told.crashed_at is not None and not told.broken


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with run_folder() as folder:
        os.environ[FOLDER_VARIABLE] = str(folder)
        with running_server() as server, fresh_database(server) as name:
            migrate(server.url(name))
            return min(1, asyncio.run(sweep(server.url(name))))


if __name__ == "__main__":
    sys.exit(main())
