"""Tallyhook: every Stripe report that is owed, complete, exactly once, on time, with proof.

How data flows, top to bottom (the picture is in README.md):

    api/webhooks   a signed event comes in              inbox/intake keeps it exactly once, then 200
    handlers.py    what the event means to us           availability moved, or a Stripe run ended
    runs/          plan → request → settle → download    and upkeep/reconcile for what no webhook reported
    planning/      which windows a rule owes            pure: no clock, no I/O
    stripe_api/    the only client of Stripe            files/: the only access to file bytes

Start reading at `worker/steps.py`: it names every lane of work and the step that does it.
"""

__version__ = "0.1.0"
