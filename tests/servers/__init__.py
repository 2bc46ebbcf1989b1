"""Servers of the tests' own, on loopback."""
