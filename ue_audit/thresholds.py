"""Every bound that a verdict, a check or a mark of the report is decided by."""

import math

GRADES = (("A", 0.8), ("B", 0.6), ("C", 0.4), ("D", 0.2), ("F", -math.inf))
"""The least survival, at its lower end, for each grade."""

MIN_EFFECT = 0.10  # C - V below this: it never protected
UNDEFINED_EFFECT = 0.05  # C - V below this: there is nothing a countermeasure could recover
MIN_SEEDS = 3  # for a grade
BROKEN = 0.5  # a countermeasure that recovers this much counts as a successful attack
FAINT = 0.05  # a recovery without an interval that is less than this is nothing
HOLDS = 0.6  # survival, at its lower end: what was tried did not break it
NEAR_WARNS, NEAR_FAILS = 0.01, 0.05  # share of a set; of CIFAR-10's test images .023 have one in its training images
NOISE_MARGIN = 0.05  # noise of the same norm may cost this much accuracy before it is called damage
