"""Row 8: the tool from Python, as a person meets it. Everything here is reached as ``whence.name``.

runs      a run in a folder: the command `whence run`, and runs opened again
fitted    a model and data in memory: fit, score, self-influence, plan
data      what a person has, as data
"""
