"""The IMAP source (RFC 3501 and what servers make of it). Begin with ``source``.

source     connect, verify, sign in; foreign errors translated      signin   which way, and what a refusal means
session    folders, listings, bodies                                listing, fetching, names, answers   pure helpers
protocol   one connection: pending commands, flow, timeouts         grammar  bytes to events, without I/O
options    what an account is made of
"""

from hauld.sources.imap.options import ImapOptions
from hauld.sources.imap.source import ImapSource

__all__ = ["ImapOptions", "ImapSource"]
