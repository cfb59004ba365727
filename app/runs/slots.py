"""Which runs are pending at Stripe, and so occupy a slot, across all processes."""

# Attempts of a cancelled run that Stripe has not ended. One that timed out occupies no slot, because it may never end,
# and must not block its own replacement. Takes `:timeout`, the seconds after which a Stripe run is given up.
CANCELLED_AT_STRIPE = """
attempts.outcome = 'cancelled' and stripe_run_id is not null and stripe_file_id is null and stripe_ended_at is null
and attempts.requested_at > clock_timestamp() - make_interval(secs => :timeout)
"""
# A create that was sent but not answered may have taken effect.
PENDING_AT_STRIPE = f"""
select account, rule_id from runs where state = 'requested' or state = 'planned' and asked_at is not null
union all
select attempts.account, runs.rule_id from attempts join runs on runs.id = attempts.run_id where {CANCELLED_AT_STRIPE}
"""  # noqa: S608 - of constants only
