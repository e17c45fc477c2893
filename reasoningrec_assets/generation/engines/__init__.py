"""Engines: each turns batches of requests into answers, and knows nothing of caches or tables."""
