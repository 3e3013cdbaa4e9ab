"""Whether a model directory can be trusted: that it is whole, unaltered, safe to read, and whose it is."""
