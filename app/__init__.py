"""Tallyhook: every Stripe report that is owed is there, whole, once, soon, with proof.

The way of the data, top to bottom (the picture is in README.md):

    api/webhooks   a signed event comes in              intake.py keeps it exactly once, then 200
    handlers.py    what the event means to us           availability moved, or a Stripe run ended
    runs/          schedule → request → settle → download, and reconcile for what no webhook told
    planning/      which windows a rule owes            pure: no clock, no I/O
    stripe_api.py  the only door to Stripe              files/: the only door to file bytes

Start reading at `worker.py`: it names every lane of work and the step that does it.
"""

__version__ = "0.1.0"
