"""The rows are the queue: claims on them, wake-ups for the workers, and commits shared by many outcomes."""
