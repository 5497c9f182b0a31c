"""What may be wrong with an installation, looked at in order, each in a line with what to do. Nothing is changed anywhere.

rounds     who is looked at, and for how long: the machine, then the accounts, side by side
telling    in lines, and as an exit code
machine    the configuration, the directories, the clock, the limits
"""

from hauld.doctor.rounds import Doctor
from hauld.doctor.telling import exit_of, lines_of

__all__ = ["Doctor", "exit_of", "lines_of"]
