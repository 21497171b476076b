"""``whence value`` and ``whence self --labels``: what labelled examples are worth, and which labels are likely wrong.

values    influence on a validation loss, and label suspects, from a curvature and data
folder    one model's and one training set's folder: settings, curvature, finished scores
report    tables and the page
job       the two commands, from settings to what they print
"""
