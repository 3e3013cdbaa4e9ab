"""Training a tagger: options, features, the loop, checkpoints, calibration and sweeps."""
