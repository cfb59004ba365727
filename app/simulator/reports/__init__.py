"""What the simulator's reports contain: types, parameters, columns, and a ledger that they are all drawn from."""
