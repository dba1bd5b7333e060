"""`python tied.py PARENT PROGRAM ARGUMENT…`: become the program, which the kernel kills as soon as process PARENT ends.

Done here rather than between fork and exec of the caller, where threads may hold any lock.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone already")
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # no shell is wanted
