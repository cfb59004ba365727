"""The simulator's webhooks: endpoints, events, signatures and their delivery."""
