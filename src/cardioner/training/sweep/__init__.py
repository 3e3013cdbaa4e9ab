"""Several trainings in one folder.

Folds and seeds (`repeated`), seeds that one model learns from (`distilled`), growing parts of the notes (`curve`), or
recipes for the head side by side (`ablation`).
"""
