"""The command line: speaks to hauld over its control socket and imports nothing of it but the contract.

Start at ``cli`` (the commands and how errors become words and exit codes); ``commands`` holds each command, ``client`` the
conversation with the daemon, ``show`` the screens, ``wait`` and ``bars`` what ``--wait`` and ``watch`` do, ``follow`` events,
``manpage`` the page for ``man``. Everything heavy is imported
where it is used, so that a command starts in about a tenth of a second.
"""
