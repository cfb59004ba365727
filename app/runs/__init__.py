"""The life of a run, in order: schedule → request → settle → download; lookup and reconcile for what nobody told us.

`rows.py` holds the moves between states, `claims.py` how work is taken: a lease that others respect, and a fence
that stops whoever was only slow from writing over its successor.
"""
