"""What the simulator's reports contain: types, parameters, columns, and the ledger that all of them are drawn from."""
