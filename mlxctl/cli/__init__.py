"""The command line: one thin module per verb, and what they share."""
