"""Metrics of predictions and explanations: ranking, intervals, text, and the evaluation that puts them in one table."""
