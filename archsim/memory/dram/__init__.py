"""DRAM at the level of commands: when each is issued, and what it costs."""
