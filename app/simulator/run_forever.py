"""The simulator on its own, until it is told to stop: `tallyhook simulator`."""

import asyncio
import signal
from collections.abc import Callable

from app.simulator.server import HOST, serve
from app.simulator.simulator import Simulator
from app.simulator.webhooks.endpoints import add_endpoint

SECRET = "whsec_simulator_default"  # noqa: S105 (made to be known: it signs what a simulator makes up)
START_TEXT = """\
Stripe's reporting side, simulated. Nothing leaves this machine, nothing is kept.

  API and files  {base_url}
  keys           {keys}
  webhooks to    {webhook}
  signed with    {secret}

An integration needs these settings (Tallyhook reads them like this):

  STRIPE_API_BASE={base_url} STRIPE_FILES_BASE={base_url} \\
  STRIPE_API_KEY={key} STRIPE_WEBHOOK_SECRET={secret}

Try it:

  # the report types, and how far their data reaches
  curl -s -u {key}: {base_url}/v1/reporting/report_types
  # a run over one day
  curl -s -u {key}: {base_url}/v1/reporting/report_runs -d report_type=balance.summary.1 \\
    -d 'parameters[interval_start]={start}' -d 'parameters[interval_end]={end}'
  # another half day of data becomes available: a signed reporting.report_type.updated goes out
  curl -s {base_url}/_control/report_types/balance.summary.1/advance -d '{{"to": {next}}}'
  # the next create takes effect, but its answer is lost
  curl -s {base_url}/_control/faults -d '{{"fault": "cut", "when": "after", "match": {{"method": "POST"}}}}'

Control routes under {base_url}/_control/ (JSON; see docs/howto/simulator.md):

  GET state · POST settings clock reset settle publish accounts keys keys/{{secret}} report_types
  POST report_types/{{id}}/advance endpoints endpoints/{{id}} endpoints/{{id}}/roll runs runs/{{id}} files/{{id}}/expire
  POST events events/release events/{{id}}/resend · POST and DELETE faults

Ctrl+C stops it.
"""


async def run_forever(port: int, *, host: str = HOST, webhook: str, say: Callable[[str], None]) -> None:
    """Serves a test and a live account on `port`, says how to use them, and returns after SIGINT, SIGTERM or SIGHUP."""
    simulator = Simulator()
    simulator.add_account("live", livemode=True)
    for account in simulator.world.accounts.values():
        add_endpoint(simulator.world, account, url=webhook, secrets=[SECRET])
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stopped.set)
    async with serve(simulator, host=host, port=port):
        say(start_text(simulator, webhook=webhook))
        await stopped.wait()


def start_text(simulator: Simulator, *, webhook: str) -> str:
    keys = [key.secret for account in simulator.world.accounts.values() for key in account.keys]
    end = simulator.report_type("balance.summary.1").data_available_end
    return START_TEXT.format(
        base_url=simulator.base_url,
        keys=" and ".join(keys),
        key=keys[0],
        secret=SECRET,
        webhook=webhook,
        start=end - 86400,
        end=end,
        next=end + 43200,
    )
