"""``whence validate``: a run's or a valuation's scores against what they approximate.

job         the four checks, from settings to RUN/checks
judged      what a check needs, of a run over text and of a valuation alike
estimates   the scores that are compared: the run's own, gradient dot product, cosine
protocol    the recipe file, the bank of retrained models, how near retraining comes to the model
told        what the checks found, read back for the reports
"""
