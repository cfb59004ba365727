"""What the simulator remembers: its objects, its clock and their ids."""
