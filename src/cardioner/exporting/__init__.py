"""Ways to leave: a trained model in forms that need no cardioner."""
