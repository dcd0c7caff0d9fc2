"""Verilog blocks beside their Python models: facts read from sources, simulators, a bench that compares."""
