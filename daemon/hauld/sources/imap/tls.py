"""What TLS trusts and shows, and how little memory it takes.

What is trusted is read once for all accounts that trust the same: the certificates of a whole system take a megabyte, and a
moment to read. A file that was replaced is read again for the next connection, so a renewed certificate needs no restart.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from hauld.errors import NeedsAttention, out_of_files
from hauld.sources.imap.options import ImapOptions

IDLE_BUFFER = 4 * 1024
"""Bytes that an idle connection reads at once: more than most of what comes then."""

_contexts: WeakValueDictionary[tuple[object, ...], ssl.SSLContext] = WeakValueDictionary()
"""Those in use, by the files they were made of."""


def context_of(options: ImapOptions) -> ssl.SSLContext:
    """What connections of that account are encrypted with. Raises ``NeedsAttention`` when a file of it cannot be used."""
    key = tuple(_stamps(options))
    if (context := _contexts.get(key)) is None:
        context = _contexts[key] = _make(options)
    return context


def _stamps(options: ImapOptions) -> Iterator[object]:
    """Which files it is made of, and which versions of them; without ``ca_file``, those that the system trusts."""
    trusted = options.ca_file or ssl.get_default_verify_paths().cafile
    for path in (trusted, options.client_cert, options.client_key):
        yield path
        try:
            told = os.stat(path) if path is not None else None
        except OSError:  # which is told by whoever reads it
            told = None
        yield told and (told.st_ino, told.st_size, told.st_mtime_ns)


def _make(options: ImapOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ssl.SSLError) as error:
        trouble = f"{options.where}: the certificates in {options.ca_file} cannot be read: {error}"
        raise out_of_files(error, trouble) or NeedsAttention(
            "configuration",
            trouble,
            hint="ca_file names a file of PEM certificates that the daemon may read.",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.client_cert is not None:
        _load_client_certificate(context, options, options.client_cert)
    return context


def _load_client_certificate(context: ssl.SSLContext, options: ImapOptions, certificate: Path) -> None:
    """A key with a passphrase is no key here: nobody is there to type it, and OpenSSL would ask the terminal."""
    try:
        context.load_cert_chain(certificate, options.client_key, password="")
    except (OSError, ssl.SSLError) as error:
        trouble = f"{options.where}: the client certificate in {certificate} cannot be used: {error}"
        raise out_of_files(error, trouble) or NeedsAttention(
            "configuration",
            trouble,
            hint="client_cert and client_key name files in PEM that the daemon may read; the key has no passphrase.",
        ) from error


# --- memory --------------------------------------------------------------------------------------------------------


def hold_little(transport: asyncio.Transport) -> None:
    """Give back what this connection has to read into, until ``hold_as_usual``: asyncio keeps 256 KiB for each one with TLS,
    filled or not. That is fast, and 50 MB for two hundred that wait. Where asyncio is made otherwise, nothing happens."""
    protocol: Any = getattr(transport, "_ssl_protocol", None)
    if hasattr(protocol, "_ssl_buffer_view") and hasattr(protocol, "max_size"):
        protocol.max_size = IDLE_BUFFER
        protocol._ssl_buffer = bytearray(IDLE_BUFFER)
        protocol._ssl_buffer_view = memoryview(protocol._ssl_buffer)


def hold_as_usual(transport: asyncio.Transport) -> None:
    """Read as fast as can be again; asyncio makes a larger buffer when something comes."""
    protocol = getattr(transport, "_ssl_protocol", None)
    if protocol is not None:
        vars(protocol).pop("max_size", None)
