"""The simulator as a Python object: plain methods for everything Stripe would do by itself.

All methods belong into the event loop that serves it (or before it is served). The control routes are these methods."""

import time
from typing import Any

from app.simulator import availability, runs
from app.simulator.faults import Fault, FaultKind, Match, When
from app.simulator.http.forms import Form
from app.simulator.reports.parameters import report_type as known_type
from app.simulator.reports.parameters import wanted_parameters
from app.simulator.set_up import SetUp
from app.simulator.state.clock import Instant, unix
from app.simulator.state.collection import Shelf
from app.simulator.state.model import Delivery, Outcome, ReportType, Run
from app.simulator.webhooks import events


class Simulator(SetUp):
    """Stripe's reporting side. It starts with the test-mode account `default`, unless told not to."""

    def advance(self, report_type: str, to: Instant, *, account: str | None = None) -> ReportType:
        """Moves the end of a type's data and sends `reporting.report_type.updated`."""
        kind = self.report_type(report_type, account=account)
        availability.advance(self.world, self.world.account(account), kind, to=to)
        return kind

    def publish(self, *, until: Instant | None = None) -> int:
        """Advances every type of every account to `until`, or to what Stripe would have ready by now."""
        return availability.publish(self.world, until=until)

    def create_run(
        self, report_type: str, parameters: dict[str, Any], *, account: str | None = None, owner: str | None = None
    ) -> Run:
        """A run that somebody else made, in the Dashboard say: it is in the lists, and its end is told."""
        owning = self.world.account(account)
        kind = known_type(owning, report_type)
        checked = wanted_parameters(kind, {"parameters": _as_form(parameters)})
        run = runs.make_run(self.world, owning, kind=kind, parameters=checked, owner=owner)
        runs.arrange_end(self.world, owning, run, runs.plan_for(self.world, owning, kind))
        return run

    def finish_run(
        self, id: str, *, outcome: Outcome = "succeed", error: str = runs.FAILURE, bytes: int | None = None
    ) -> Run:
        """Ends a run now, even one that has ended before; `bytes` makes its file exactly that large."""
        run, account = self._run_and_account(id)
        if bytes is not None:
            run.recipe = runs.of_size(run.recipe, bytes)
        runs.end_run(self.world, account, run, runs.Plan(outcome=outcome, delay=0.0, error=error))
        return run

    def expire_file(self, id: str) -> None:
        """The file's time is over: 404 from now on."""
        for file in self.files:
            if file.id == id:
                file.expires_at = self.now
                return
        raise LookupError(f"no file is called {id!r}")

    def inject(
        self,
        fault: FaultKind,
        *,
        match: dict[str, str] | None = None,
        times: int | None = 1,
        after: int = 0,
        when: When = "before",
        status: int = 500,
        headers: dict[str, str] | None = None,
        message: str | None = None,
        code: str | None = None,
        seconds: float = 0.0,
        bytes: int | None = None,
        url: str | None = None,
    ) -> Fault:
        """One more rule of what goes wrong; see `faults` for the kinds and the words of `match`."""
        rule = Fault(
            fault=fault,
            match=Match.of(match or {}),
            times=times,
            after=after,
            when=when,
            status=status,
            headers=headers or {},
            message=message,
            code=code,
            seconds=seconds,
            bytes=bytes,
            url=url,
        )
        return self.world.faults.add(rule)

    @property
    def faults(self) -> list[Fault]:
        return list(self.world.faults.rules)

    def clear_faults(self) -> None:
        """Removes all rules; what they have spoilt stays spoilt."""
        self.world.faults.clear()

    def emit(
        self,
        type: str,
        object: dict[str, Any],
        *,
        account: str | None = None,
        previous_attributes: dict[str, Any] | None = None,
        owner: str | None = None,
        livemode: bool | None = None,
    ) -> None:
        """Any event at all; with `owner` it is one of a connected account and goes to Connect endpoints."""
        events.emit(
            self.world,
            self.world.account(account),
            kind=type,
            about=object,
            previous=previous_attributes,
            owner=owner,
            livemode=livemode,
        )

    def release(self, *, order: str | list[str] = "made") -> list[Delivery]:
        """Sends what `event_held` has held back: `made`, `reversed`, `random`, or the given event ids."""
        return events.release(self.world, order=order)

    def resend(self, id: str, *, account: str | None = None) -> list[Delivery]:
        """Delivers an event once more, as the Dashboard can."""
        return events.resend(self.world, self.world.account(account), id)

    async def settle(self, *, timeout: float = 30.0) -> bool:
        """Waits until all that is due has happened and no delivery is on its way; False after `timeout` seconds."""
        self.world.agenda.catch_up()
        return await self.world.courier.settled(timeout)

    def set_clock(
        self, *, to: Instant | None = None, advance: float = 0.0, stopped: bool | None = None
    ) -> dict[str, Any]:
        """Sets the clock, moves it by seconds, stops it or lets it run; then what has become due happens."""
        clock = self.world.clock
        if stopped:
            clock.stop()
        if to is not None or advance:
            clock.set((clock.now() if to is None else unix(to)) + advance)
        if stopped is False:
            clock.run()
        self.world.agenda.catch_up()
        return {"now": clock.now(), "stopped": clock.stopped}

    def reset(self) -> None:
        """Forgets all runs, files, events, calls, idempotency keys and faults, and sets the clock right.

        Accounts, keys, report types, endpoints and settings stay."""
        world = self.world
        for account in world.accounts.values():
            account.runs, account.files, account.events = Shelf(), {}, Shelf()
        world.faults.clear()
        world.idempotency.clear()
        world.rate_limits.clear()
        world.journal.clear()
        world.courier.drop_everything()
        world.agenda.clear()
        world.clock.run()
        world.clock.set(time.time())


def _as_form(parameters: dict[str, Any]) -> Form:
    """Parameters as a form would have brought them: texts, and lists of texts."""
    return {
        name: [str(item) for item in value] if isinstance(value, list | tuple) else str(value)
        for name, value in parameters.items()
    }
