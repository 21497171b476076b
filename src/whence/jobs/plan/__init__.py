"""``whence plan``: what a run would take, before it takes it.

    workload    what will be read: batches of which shape
    costs       operations, counted from the sizes of layers
    memory      bytes held at the height of each pass     disk, page    bytes kept
    probe       counters of operations and bytes, a clock, made-up batches
    sinks       what each pass adds to a plain one, tried on made-up traces
    machine     both over a workload: trials at a few of its shapes, scaled
    check       what opens a run, on made-up tokens
    passes, fit_passes     the passes of a run, in its order, and those of a fit over all layers or some
    within      batches, rank and groups of layers for some memory
    subject     a model, its text and its questions, before batches are chosen     job     from settings to a plan
    view        the plan as an object: printed, or handed to a machine

Data are tokenised for their lengths and the model is loaded; no training text goes through it.
"""

from whence.jobs.plan.job import plan, plan_for
from whence.jobs.plan.view import Plan

__all__ = ["Plan", "plan", "plan_for"]
