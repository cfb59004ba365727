"""The counters of one process for `GET /metrics`, in a registry of its own instead of the global one.

Whatever the rows can tell is read from them when `/metrics` is scraped (`health/gauges`).
"""

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

# No `_created` series beside each counter: they would double the answer, and nothing uses them.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped

# From an event that finds an idle worker (milliseconds) to one that waited while the database was away.
_HANDLING_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
# Stripe makes a report in seconds to hours.
_LOAD_SECONDS = (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_STORED_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400)


class Metrics:
    """The counters and histograms of a process; label values come from closed sets, or from Stripe's own catalogue."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.deliveries = Counter(
            "tallyhook_deliveries", "Webhook deliveries that were stored, by the first status of the event.",
            ["account", "type", "outcome"], registry=registry,
        )  # fmt: skip
        self.events = Counter(
            "tallyhook_events", "Events taken from the inbox, by the outcome of handling them.",
            ["type", "outcome"], registry=registry,
        )  # fmt: skip
        self.handling_seconds = Histogram(
            "tallyhook_event_handling_seconds",
            "Seconds from when an event was due (usually its arrival) to the commit that handled it.",
            buckets=_HANDLING_SECONDS, registry=registry,
        )  # fmt: skip
        self.stripe_requests = Counter(
            "tallyhook_stripe_requests", "Calls to Stripe; status `none` means no answer.",
            ["account", "endpoint", "status"], registry=registry,
        )  # fmt: skip
        self.unreadable_items = Counter(
            "tallyhook_unreadable_items", "Items in Stripe's lists that could not be read and were skipped.",
            ["account", "kind"], registry=registry,
        )  # fmt: skip
        self.stored_bytes = Counter(
            "tallyhook_stored_bytes", "Bytes of completely stored files.", ["account"], registry=registry
        )
        self.stored_files = Counter(
            "tallyhook_stored_files", "Files that were completely stored.", ["account"], registry=registry
        )
        self.removed_bytes = Counter(
            "tallyhook_removed_bytes", "Bytes of files that retention removed.", ["account"], registry=registry
        )
        self.removed_files = Counter(
            "tallyhook_removed_files", "Files whose bytes retention removed.", ["account"], registry=registry
        )
        self.loaded_rows = Counter(
            "tallyhook_loaded_rows", "Rows of files that were loaded into tables.", ["table"], registry=registry
        )
        self.load_seconds = Histogram(
            "tallyhook_load_seconds", "Seconds that loading a file took.", buckets=_LOAD_SECONDS, registry=registry
        )
        self.availability_to_stored_seconds = Histogram(
            "tallyhook_availability_to_stored_seconds",
            "Seconds from planning a rule's run, when Stripe announced its data, to its stored file.",
            buckets=_STORED_SECONDS, registry=registry,
        )  # fmt: skip
        self.target_deliveries = Counter(
            "tallyhook_target_deliveries", "Attempts to deliver messages to targets, by outcome.",
            ["target", "outcome"], registry=registry,
        )  # fmt: skip
