"""The work itself: what is wanted, fetched, stored and told. It sees the promises of source, store and state, never a maker.

- ``supervisor``: which jobs run; the only place that makes tasks which outlive a call
- ``strategies``: which items can be asked for; ``declared``: the jobs that the configuration asks for
- ``job``: the life of one job: its slot, its retries; ``schedule`` is what it compares when
- ``comparison``, ``downloader``: one run of a job: what differs from the origin, and fetching it; ``plan`` is what to fetch
  next, ``crew`` several sessions at the same work, ``fetching`` one batch
- ``listener``, ``news``: the session that hears of new mail, and the short way from there
- ``ingest``: the commit, one for each store
- ``verify``, ``repair``: reading again what is stored, and mending it; ``findings`` is what comes out
- ``rebuild``, ``copies``: how a ledger that was lost comes back, and what files cannot tell of it
- ``account``: an origin's sessions, and how it is
- ``limits``, ``progress``: bounds, and figures for people; ``pieces``: long lists, a piece at a time
- ``events``: what happened, for those who follow
- ``commands``: what the door may ask for; ``wire`` puts it into the door's words
"""
