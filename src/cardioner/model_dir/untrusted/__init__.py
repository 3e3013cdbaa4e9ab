"""Whether a model directory of a stranger is safe to read, told before any library reads it."""
