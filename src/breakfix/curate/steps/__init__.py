"""Curation steps: every example comes out again, kept or dropped with a reason (core.Step). One step, one file."""
