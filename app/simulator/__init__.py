"""Stripe's reporting side as a small stateful server of its own, to try an integration against.

It knows nothing of the rest of Tallyhook. In a test:

    simulator = Simulator()
    simulator.add_endpoint("http://127.0.0.1:8000/webhooks/stripe", secrets=["whsec_…"])
    async with serve(simulator) as base_url:
        simulator.advance("balance.summary.1", to=datetime(2026, 3, 2, tzinfo=UTC))
        await simulator.settle()

The way of a call: `routes` → `gateway` → `admission` → `execution` → `api_*` → `runs` → `events` → `courier`;
the files come from `recipes`, `families` and `ledger`. From a shell: `tallyhook simulator`.
"""

from app.simulator.http.server import serve
from app.simulator.run_forever import run_forever
from app.simulator.simulator import Simulator

__all__ = ["Simulator", "run_forever", "serve"]
