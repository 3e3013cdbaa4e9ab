"""The page that `cardioner check --html` writes."""
