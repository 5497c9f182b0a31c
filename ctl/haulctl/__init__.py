"""The command line: speaks to hauld over its control socket and imports nothing of it but the contract."""
