"""Stripe's reporting side as a small stateful server, to test an integration against.

It knows nothing of the rest of Tallyhook. In a test:

    simulator = Simulator()
    simulator.add_endpoint("http://127.0.0.1:8000/webhooks/stripe", secrets=["whsec_…"])
    async with serve(simulator) as base_url:
        simulator.advance("balance.summary.1", to=datetime(2026, 3, 2, tzinfo=UTC))
        await simulator.settle()

The path of a call: `http/` (`routes` → `api_route` → `authentication` → `carry_out` → `api_*`) → `runs` → `webhooks/`
(`events` → `sender`); its memory is in `state/`; files come from `recipes` and `reports/`, and facts about Stripe's
report types from `app/catalogue/reports.yaml`. From a shell: `tallyhook simulator`.
"""

from app.simulator.run_forever import run_forever
from app.simulator.server import serve
from app.simulator.simulator import Simulator

__all__ = ["Simulator", "run_forever", "serve"]
