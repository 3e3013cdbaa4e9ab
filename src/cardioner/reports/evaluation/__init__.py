"""The page that `cardioner evaluate --html` writes."""
