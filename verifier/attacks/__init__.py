"""Attacks: the other end of the bracket. Nothing found here is believed before an exact check."""
