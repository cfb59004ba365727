"""The demo's output: the story as it happens, then a table of the stored files."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

import httpx
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from sqlalchemy import text

from app.cli.demo.client import pages
from app.db.rows import fetch
from app.resources import Resources
from app.sentences import count

LINES = 6
LOOK_SECONDS = 0.1
_STYLES = {"planned": "cyan", "requested": "yellow", "ready": "magenta", "stored": "green", "failed": "red"}


@dataclass(frozen=True, slots=True)
class _Event:
    id: int
    type: str
    object_id: str | None


@dataclass(frozen=True, slots=True)
class _Move:
    id: int
    to_state: str
    name: str  # of the rule
    interval_start: datetime | None
    interval_end: datetime | None


@dataclass(frozen=True, slots=True)
class _OfRule:
    name: str
    stored: int
    strip: str | None  # a sign for each window, None without any


class Story:
    """Follows events and runs in the database and shows them: live in a terminal, line by line elsewhere."""

    def __init__(self, console: Console, res: Resources, page: str | None = None) -> None:
        self._console, self._res, self._page = console, res, page
        self._lines: deque[str] = deque(maxlen=LINES)
        self._last_move = self._last_event = 0
        self._counts: list[_OfRule] = []
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self._picture(), refresh=True)
            self._live.stop()

    def tell(self, line: str, *, style: str = "bold") -> None:
        """One more line of the story, drawn at once: many lines may push it out a moment later."""
        self._add(line, style=style)
        if self._live:
            self._live.update(self._picture(), refresh=True)

    def _add(self, line: str, *, style: str) -> None:
        marked = f"[{style}]{escape(line)}[/]"  # names of rules may look like markup
        self._lines.append(marked)
        if not self._live:
            self._console.print(marked, highlight=False, soft_wrap=True)

    async def follow(self, seconds: float) -> None:
        """Show what happens during some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self._look()
            await asyncio.sleep(LOOK_SECONDS)

    async def follow_until_stored(self, least: int, *, patience: float, stop: asyncio.Event) -> None:
        """Show what happens until at least this many files are stored and nothing is under way."""
        end = time.monotonic() + patience
        while time.monotonic() < end and not stop.is_set():
            await self.follow(LOOK_SECONDS)
            if sum(row.stored for row in self._counts) >= least and not await self._busy():
                break
        await self._look()

    async def _busy(self) -> bool:
        async with self._res.sessions.begin() as session:
            return bool((await session.execute(_BUSY)).scalar_one())

    async def _look(self) -> None:
        async with self._res.sessions.begin() as session:
            events = await fetch(session, _Event, _EVENTS, {"last": self._last_event})
            moves = await fetch(session, _Move, _MOVES, {"last": self._last_move})
            self._counts = await fetch(session, _OfRule, _COUNTS)
        for event in events:
            self._last_event = event.id
            self._add(f"  webhook    {event.type} {event.object_id}", style="dim")
        for move in moves:
            self._last_move = move.id
            self._add(f"  {move.to_state:<10} {move.name} {_window(move)}", style=_STYLES.get(move.to_state, "white"))
        if self._live and (events or moves):
            self._live.update(self._picture())

    def _picture(self) -> Group:
        table = Table(title="Tallyhook demo", box=SIMPLE_HEAD, expand=True, padding=(0, 1))
        table.add_column("rule", no_wrap=True)
        table.add_column("its windows: ✓ stored  … under way  ✕ failed", no_wrap=True, ratio=1)
        table.add_column("stored", justify="right", style=_STYLES["stored"])
        for row in self._counts:
            table.add_row(escape(row.name), row.strip or "", str(row.stored or ""))
        # A line takes one row: if older ones wrapped, the newest would fall out of the panel.
        lines = Text.from_markup("\n".join(self._lines), overflow="ellipsis")
        lines.no_wrap = True
        return Group(table, Panel(lines, title="what happens", height=LINES + 2), self._foot())

    def _foot(self) -> str:
        return "" if self._page is None else f"Watch it in a browser: {self._page}"


async def show_stored(console: Console, client: httpx.AsyncClient, *, url: str | None, token: str) -> None:
    """A table of what was stored, and how to look around while `url` answers."""
    runs = [run async for run in pages(client, "/v1/runs?state=stored")]
    table = Table(title=f"{count(len(runs), 'file')} stored")
    for heading in ("file", "bytes", "sha-256"):
        table.add_column(heading, justify="right" if heading == "bytes" else "left", overflow="fold")
    for run in sorted(runs, key=lambda run: str(run["file"]["filename"])):
        table.add_row(run["file"]["filename"], f"{run['file']['size']:,}", run["file"]["sha256"][:16] + "…")
    console.print(table)
    if url is None:
        return
    console.print(f"API       {url}/docs", highlight=False, soft_wrap=True)
    console.print(f"token     {token}", highlight=False, soft_wrap=True)
    if runs:
        line = f'curl -OJ -H "Authorization: Bearer {token}" {url}/v1/runs/{runs[0]["id"]}/file'
        console.print(f"download  {line}", highlight=False, soft_wrap=True, markup=False)


def _window(move: _Move) -> str:
    return f"{_minute(move.interval_start)} – {_minute(move.interval_end)} UTC"


def _minute(moment: datetime | None) -> str:
    return "…" if moment is None else f"{moment:%m-%d %H:%M}"


_EVENTS = text("select id, type, object_id from events where id > :last order by id limit 200")
_MOVES = text("""
select m.id, m.to_state, rules.name, runs.interval_start, runs.interval_end from run_moves as m
join runs on runs.id = m.run_id join rules on rules.id = runs.rule_id where m.id > :last order by m.id limit 200
""")
_COUNTS = text("""
select rules.name, count(*) filter (where state = 'stored') as stored,
    right(string_agg(case state when 'stored' then '✓' when 'failed' then '✕' when 'cancelled' then '–' else '…' end, ''
        order by window_key), 44) as strip
from rules left join runs on runs.rule_id = rules.id group by rules.id order by rules.created_at, rules.name
""")
_BUSY = text("""
select exists (select from runs where state in ('planned', 'requested', 'ready'))
    or exists (select from events where status = 'pending')
""")
