"""Run a program that dies with whoever started it: ``python -m edgeflow_tools.demo.leash PID program …``.

PID is that of whoever starts it, however that ends. The kernel keeps the leash over exec, and lets go when
the program changes its user.
Source: PR_SET_PDEATHSIG(2const).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Put on the leash and become the program."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):  # it died before the leash was on
        raise SystemExit(1)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
