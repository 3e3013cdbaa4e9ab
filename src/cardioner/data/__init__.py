"""Notes and their spans: documents, label sets, splits, formats, and what `check` finds. No torch here."""
