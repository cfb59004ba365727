"""The child that loads files, seen from the service: started when there is work, ended after a minute without."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from app.db.engine import CONNECTING, libpq_conninfo
from app.errors import ChildEnded, ChildSilent
from app.resources import Resources

IDLE_SECONDS = 60.0
# A gigabyte takes a minute, and may take half an hour: after that the child is hanging, and others wait for it.
ANSWER_SECONDS = 1800.0
_ROOT = Path(__file__).parents[2]


class Child:
    """At most one process, which does one thing at a time while other callers wait."""

    def __init__(self, res: Resources) -> None:
        self._opening, self._intake = _opening(res), res.intake
        self._process: asyncio.subprocess.Process | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._free = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return None if self._process is None else self._process.pid

    async def load(self, load_id: int, fence: int) -> Mapping[str, Any]:
        """Have the child do a load; returns how it ended. Raises ChildEnded. Cancelling this ends the child."""
        return await self._ask({"id": load_id, "fence": fence})

    async def write_parquet(self, run_id: uuid.UUID, path: Path, *, whole: bool) -> Mapping[str, Any]:
        """Have a run's file written as Parquet, with all its columns or with what the views show. Otherwise like
        `load`."""
        return await self._ask({"parquet": str(run_id), "path": str(path), "whole": whole})

    async def same_rows(self, one: uuid.UUID, other: uuid.UUID, size: int) -> Mapping[str, Any]:
        """Have a stored file compared with one of `size` bytes that is not visible yet. Otherwise like `load`."""
        return await self._ask({"same_rows": [str(one), str(other)], "size": size})

    async def _ask(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        async with self._free:
            self._keep()
            try:
                process = await self._started()
                answer = await self._asked(process, question)
            except BaseException:
                await self.end()
                raise
            self._end_when_idle()
            return answer

    async def end(self) -> None:
        """End the process."""
        self._keep()
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.stdin is not None and self._process.stdin.is_closing():
            await self.end()  # it was idle, and may not have noticed yet
        if self._process is None or self._process.returncode is not None:
            path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "app.tables.child",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
            )  # fmt: skip
            self._send(self._process, self._opening)
        return self._process

    async def _asked(self, process: asyncio.subprocess.Process, question: Mapping[str, Any]) -> Mapping[str, Any]:
        assert process.stdout is not None
        # The sender of an event waits for its answer; nobody waits for a load.
        self._send(process, {**question, "gently": self._intake.is_busy})
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError as error:
            raise ChildSilent(f"the process that loads files did not answer for {ANSWER_SECONDS:g} s") from error
        if not line:
            raise ChildEnded(f"the process that loads files ended with {await process.wait()}")
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    @staticmethod
    def _send(process: asyncio.subprocess.Process, what: Mapping[str, Any]) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(what).encode() + b"\n")

    def _keep(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def _end_when_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._ending = loop.call_later(IDLE_SECONDS, self._close)

    def _close(self) -> None:
        # At the end of its input it ends by itself; `_started` notices.
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


def _opening(res: Resources) -> Mapping[str, Any]:
    url = res.engine.url.render_as_string(hide_password=False)
    more = {**CONNECTING, "application_name": "tallyhook loads"}
    return {
        "conninfo": make_conninfo(libpq_conninfo(url), **more),
        "reports_schema": res.settings.reports_schema,
        "all_personal": res.settings.tables_personal == "all",
    }
