"""What the probes share."""

from __future__ import annotations


class Unprobed(Exception):
    """A probe that can't be made of this model here and now, and why. It is left out, and the table says so."""
