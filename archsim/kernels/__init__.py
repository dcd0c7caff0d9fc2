"""Numeric kernels: arrays in, arrays out. Nothing of archsim, no simpy."""
