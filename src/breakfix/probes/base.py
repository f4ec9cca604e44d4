"""What the probes share."""

from __future__ import annotations

MOST_KL = 0.1  # nats, at the first token of replies to harmless requests: above it a model may be broken, not freed


class Unprobed(Exception):
    """A probe that can't be made of this model here and now, and why. It is left out, and the table says so."""
