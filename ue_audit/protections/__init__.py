"""Protections: the owner's noise. `generate(data, config, tools)` returns `delta(rows) -> (B,3,S,S)`."""
