"""The wire contract between ``hauld`` and whoever speaks to it.

Nothing but msgspec structs and the lines that carry them, so that a client needs this package and nothing else of the daemon:

- ``frames``: one JSON object a line, and the limits of a line
- ``envelope``: JSON-RPC 2.0 requests, replies and errors
- ``calls``: each method with its parameters and its result
- ``events``: numbered facts
- ``faults``: what can go wrong, as words, codes and exit codes
- ``schema``: all of it as an OpenRPC document, for the tools of others
"""

API_VERSION = "1.0"
"""Major and minor version of the contract; another major version is refused in words."""
