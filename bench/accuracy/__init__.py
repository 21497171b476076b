"""How well each estimator agrees with PBRF, and at what cost: ``python -m bench.accuracy DATA``."""
