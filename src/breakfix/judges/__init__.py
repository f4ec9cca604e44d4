"""Judges: transcript in, verdict out (core.Judge). Rules first, then classifiers, then LLM rubrics."""
