"""The saved model directory: what is in it, how it is written, checked, loaded and signed."""
