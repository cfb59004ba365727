"""Targets: where messages about events of ours go: webhooks, e-mail, Slack, folders of an object store.

A fact's message is created in the transaction of the fact (`messages`), with one delivery per target that wants it. A
lane of its own sends what is due (`deliveries`, `send`); the timetable announces lasting states, such as a late rule
(`notices`). Nothing here ever holds up a run.
"""
