"""Prints the engines, beside the tap, that notebooks can be validated under on this machine."""

import sys

from labkit.wire import live

if __name__ == "__main__":
    reason = live.available()
    if reason:
        sys.stderr.write(f"live capture is not validated here: {reason}\n")
    else:
        sys.stdout.write("live\n")
