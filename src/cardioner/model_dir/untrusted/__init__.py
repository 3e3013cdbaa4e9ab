"""Whether a model directory of a stranger is safe to read, found out before any library reads it.

Every check raises a `ModelError` of one line: the file, what was expected, what was found, and what to do.
"""
