"""The ledger in one SQLite file.

- ``ledger``: ``SqliteState``, start and close; by subject its methods are in ``jobs``, ``folders``, ``downloads``, ``looking``,
  ``verifying``, ``restoring``, ``copying``, ``events``
- ``*.sql``: every statement under its name, in the file of its subject; ``queries`` reads them
- ``migrations/*.sql``: the tables, their rules as constraints, and their counting as triggers; ``schema`` applies them
- ``database``: one writer, one reader, transactions; ``guard``: who may open the file, and whether it is sound
- ``rescue``: what is done when it is not; ``copies``, ``files``, ``wal``: what that needs of the disk
- ``connection``: statements on a thread, foreign errors made ours; ``rows``: rows made values
"""

from hauld.state.sqlite.ledger import SqliteState

__all__ = ["SqliteState"]
