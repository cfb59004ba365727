"""The inbox: deliveries are verified and classified, and each event is stored exactly once."""
