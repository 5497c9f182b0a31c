"""What people and editors look up: the pages hauld(8) and haul.toml(5), and a JSON Schema of the configuration.

All of it is made of what the commands and ``hauld.config`` say, and of the comments in ``config/haul.toml``, which ``sample``
reads; nothing in the daemon needs it. Tests compare what is kept in the repository with what is made.
"""
