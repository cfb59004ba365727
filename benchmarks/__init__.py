"""What the service can do, each figure beside a limit measured in the same run."""
