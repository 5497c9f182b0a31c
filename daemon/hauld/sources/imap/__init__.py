"""The IMAP source (RFC 3501 and what servers make of it). Begin with ``source``.

source     connect, verify, sign in; foreign errors translated      signin   which way, and what a refusal means
session    folders, listings, bodies, news                          listing, fetching, names, answers   pure helpers
idling     waiting until the server says that something changed     tls      what is trusted; buffers
examining  what is seen at each step of the way there                concealing   secrets kept out of answers
protocol   one connection: pending commands, flow, timeouts         client   how it begins and is left
grammar    bytes to events, without I/O                             dialling   from a host's name to a socket
arguments, options   what is asked, and of whom
"""

from hauld.sources.imap.options import ImapOptions
from hauld.sources.imap.source import ImapSource

__all__ = ["ImapOptions", "ImapSource"]
