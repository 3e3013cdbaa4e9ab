"""How a model was trained, as a page made of what a model directory's `training_args.json` records."""
