"""The work itself: what is wanted, fetched, stored and told. It sees the promises of source, store and state, never a maker.

- ``supervisor``: which jobs run; the only place that makes tasks which outlive a call
- ``job``: the life of one job: its slot, its retries, its schedule
- ``downloader``: one run of a job: compare with the origin, then download the difference
- ``ingest``: the commit, one for each store
- ``account``: an origin's sessions, and how it is
- ``limits``, ``progress``: bounds, and figures for people
- ``commands``: what the door may ask for
"""
