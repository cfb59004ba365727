"""The life of a run, in order: plan → request → settle → download; lookup for runs that no webhook has reported.

`moves.py` has the moves between states; `queue/claims.py` says how work is taken: with a lease that others respect,
and a fence that stops a slow worker from overwriting its successor.
"""
