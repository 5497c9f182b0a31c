"""The door: JSON-RPC 2.0 over a Unix socket, as ``haulapi`` writes it down.

From the outside in: ``socketfile`` (the name in the file system), ``peers`` (who may come in), ``server`` (connections and
their limits), ``dispatch`` (a line and its answer), ``routes`` (each method and what answers it); and ``follow`` (the events
that a connection asked for).
"""
