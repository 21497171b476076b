"""What every pass costs, in units of a training step, beside Kronfluence and Bergson: ``make bench``."""
