"""Prompts: the only place that knows how a question looks, for the teacher and for the student."""
