"""The commands: one file each, which parses, calls one job, and prints.

Nothing here imports torch until a command runs, so that help answers at once.
"""

from whence.cli.app import main

__all__ = ["main"]
