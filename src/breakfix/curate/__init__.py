"""Curation: prompts from sources and from failures become the rows that a round learns from. See run.py."""

from breakfix.curate.base import NO_PLAN, Plan
from breakfix.curate.run import run

__all__ = ["NO_PLAN", "Plan", "run"]
