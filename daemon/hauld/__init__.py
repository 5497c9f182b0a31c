"""The daemon: keeps complete, verified local copies of what lives elsewhere.

Floors, lowest first; imports point downwards and a test holds it:

1. ``model``, ``errors``, ``clock``, ``retry``: values, allowed moves, errors named by the next step
2. ``sources``, ``stores``, ``state``: where things come from, where bytes go, what is known; they do not know each other
3. ``engine``: the work itself; it sees promises, not makers
4. ``rpc``: the door
5. ``app``, ``cli``, ``config``, ``secrets``, ``systemd``, ``logs``: the roof, which picks the adapters and starts everything

The way of one message is told in ``engine/downloader.py`` and ``engine/ingest.py``.
"""

__version__ = "0.1.0"
"""The same as in pyproject.toml, as a test holds: asking the installed package would take a tenth of the start."""
