"""A server on this machine: where it listens, who may ask, and how much."""

from polyana.web.body import TooLong, read_body
from polyana.web.guard import Guard, is_loopback
from polyana.web.server import Address, Server, listen

__all__ = ["Address", "Guard", "Server", "TooLong", "is_loopback", "listen", "read_body"]
