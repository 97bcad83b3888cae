"""The command line: `tightcert`."""

from verifier.cli.commands import main

__all__ = ["main"]
