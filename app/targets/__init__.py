"""Targets: who is told that something happened, and how: webhooks, e-mail, Slack, folders of an object store.

A fact's message is born in the transaction of the fact (`messages`), with one delivery per target that wants it. A
lane of its own sends what is due (`deliveries`, `send`); what lasts, like a late rule, is noticed by the timetable
(`notices`). Nothing here ever holds up a run.
"""
