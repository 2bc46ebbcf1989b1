"""Servers of the tests' own, on loopback."""

import socket

__all__ = ["free_port"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
