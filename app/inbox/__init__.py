"""The inbox: deliveries are verified and judged, and each event is kept exactly once."""
