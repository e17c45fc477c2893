"""Raw interactions in, leak-safe windows out: registry, sources, adapters, cleaning, windows and sampling."""
