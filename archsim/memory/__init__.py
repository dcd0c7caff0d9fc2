"""Off-chip memories: the port contract and the kinds that implement it."""
