"""From notes of any length to spans: one text, many notes, or a run that resumes."""
