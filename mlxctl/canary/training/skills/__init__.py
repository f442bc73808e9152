"""What the canary can do, one module a subject; mixes.py weighs the skills. Each draws one turn for a dialogue.

Every subject has two rounds of wordings: plain ones, and free ones with noise and any vocabulary (`free_…`, which a
second training run added). Their answers are the same and are made in one place.
"""
