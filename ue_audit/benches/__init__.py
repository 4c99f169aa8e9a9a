"""The parts of `ue-audit bench`: each one module with `TITLE` and `run(scene) -> Part`."""
