"""As `grey`, but it needs a prior, which it does not look at."""

from stand_ins.grey import SOURCE, Config, build, passes

__all__ = ["NEEDS", "SOURCE", "Config", "build", "passes"]
NEEDS = ("prior",)
