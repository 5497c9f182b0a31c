"""The commands, by what they are for: ``look`` changes nothing, ``follow`` goes on looking, ``act`` changes, ``shell`` helps
one's shell.

Each command asks the daemon one thing and hands what comes back to ``output``; a result on stdout has the same shape as on
the wire when it is asked for as JSON.
"""
