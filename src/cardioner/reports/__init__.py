"""Pages of corpora, evaluations and trainings: single HTML files that need no other file and no network."""
