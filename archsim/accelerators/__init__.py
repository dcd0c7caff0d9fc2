"""Machines: one package each, found by `pkgutil`; the contract is in `base`."""
