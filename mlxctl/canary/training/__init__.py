"""How the canary was made: dialogue generator, training, evaluation. Not in the wheel; README.md tells."""
