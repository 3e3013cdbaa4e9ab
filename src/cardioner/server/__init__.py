"""The HTTP service of `cardioner serve`: models in memory, requests that share batches, and no text in any message."""
