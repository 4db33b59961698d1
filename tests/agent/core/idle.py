"""A process that waits to be told something."""

from __future__ import annotations

import time

if __name__ == "__main__":
    time.sleep(60)
