"""The rows are the queue: claims on them, wake-ups for whoever waits, and commits shared by many outcomes."""
