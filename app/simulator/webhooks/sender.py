"""Sends signed events to webhook endpoints: a bounded number at once, retried with growing pauses, all recorded."""

import asyncio
import time
from collections.abc import Coroutine
from functools import cache
from ssl import SSLContext

import httpx
import orjson

from app.simulator.clock import Clock
from app.simulator.settings import Settings
from app.simulator.state.model import Delivery
from app.simulator.webhooks.signatures import signature_header

AT_ONCE = 64
USER_AGENT = "Stripe/1.0 (+https://stripe.com/docs/webhooks)"


@cache
def _certificates() -> SSLContext:
    """Loading the certificate authorities takes 40 ms: once per process, and only when something is delivered."""
    return httpx.create_ssl_context()


class WebhookSender:
    """Deliveries in flight. Before `start` they wait; `settled` waits until none is left."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._waiting: list[tuple[Delivery, float]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None
        self._gate: asyncio.Semaphore | None = None
        self._running = False

    def start(self) -> None:
        self._running = True
        self._gate = asyncio.Semaphore(AT_ONCE)
        waiting, self._waiting = self._waiting, []
        for delivery, delay in waiting:
            self.send(delivery, delay=delay)

    async def stop(self) -> None:
        self._running = False
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
        self._client = None

    def send(self, delivery: Delivery, *, delay: float = 0.0) -> "asyncio.Task[None] | None":
        """Starts the delivery; the task ends when it is delivered or given up."""
        if not self._running:
            self._waiting.append((delivery, delay))
            return None
        return self._keep(self._carry(delivery, delay))

    def send_in_turn(self, deliveries: list[Delivery]) -> None:
        """Each one only after the previous one has been delivered or given up."""
        if not self._running:
            self._waiting += [(delivery, 0.0) for delivery in deliveries]
            return
        self._keep(self._carry_all(deliveries))

    async def settled(self, timeout: float) -> bool:
        """Waits until nothing is in flight; False if that takes longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._tasks:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await asyncio.wait(list(self._tasks), timeout=left)
        return True

    def drop_everything(self) -> None:
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    def _keep(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _carry_all(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            await self._carry(delivery, 0.0)

    async def _carry(self, delivery: Delivery, delay: float) -> None:
        await asyncio.sleep(delay)
        for number in range(self._settings.delivery_tries):
            if number:
                pause = self._settings.delivery_base * 2 ** (number - 1)
                await asyncio.sleep(min(pause, self._settings.delivery_most))
            if not delivery.endpoint.enabled or delivery.endpoint.id not in delivery.account.endpoints:
                break
            if await self._try(delivery):
                delivery.status = "delivered"
                return
        delivery.status = "failed"

    async def _try(self, delivery: Delivery) -> bool:
        """One try with its own time stamp and signature; anything but a 2xx answer is a failure."""
        assert self._gate is not None
        async with self._gate:
            body = self._body(delivery)
            headers = {
                "Content-Type": "application/json; charset=utf-8",
                "Stripe-Signature": self._sign(delivery, body),
            }
            try:
                answer = await self._http().post(delivery.endpoint.url, content=body, headers=headers)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                delivery.tries.append(type(error).__name__)
                return False
        delivery.tries.append(answer.status_code)
        return answer.is_success

    def _body(self, delivery: Delivery) -> bytes:
        version = delivery.endpoint.api_version or self._settings.api_version
        # Indented like Stripe's: a receiver that serializes the body again breaks the signature here too.
        return orjson.dumps(delivery.event.rendered(version), option=orjson.OPT_INDENT_2)

    def _sign(self, delivery: Delivery, body: bytes) -> str:
        # Real time, not the simulator's: receivers compare it with their own clock.
        stamp = int(time.time() - delivery.signed_seconds_ago)
        secrets = delivery.endpoint.active_secrets(self._clock.now())
        return signature_header(body, ["whsec_of_somebody_else"] if delivery.wrong_secret else secrets, at=stamp)

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
            self._client = httpx.AsyncClient(
                verify=_certificates(),
                limits=limits,
                timeout=self._settings.delivery_timeout,
                trust_env=False,
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept": "*/*; q=0.5, application/xml",
                    "Cache-Control": "no-cache",
                },
            )
        return self._client
