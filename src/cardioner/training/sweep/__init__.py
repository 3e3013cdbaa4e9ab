"""Several trainings in one folder: folds and seeds (`repeated`), or recipes side by side (`ablation`)."""
