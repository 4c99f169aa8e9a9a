"""Learners: what an attacker trains on the data. `fit(data, config, tools)` yields one `Epoch` per epoch."""
