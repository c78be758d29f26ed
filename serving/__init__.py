"""TimescaleDB braids batch and speed rows into one set of SQL views; the hand-off keeps every merged count exact."""
