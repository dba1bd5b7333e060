"""`make demo`: the whole main path on a real API server, with commentary."""
