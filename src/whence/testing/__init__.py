"""What tests are made of, for ours and for yours: tiny models, dense oracles, contract suites.

`tiny` makes models and `toys` data small enough that every matrix can be written out; `dense` writes them out,
by plain autograd over one sequence at a time; `differences` moves weights and embeddings and looks;
`contracts` holds what every curvature, layer adapter and task owes its callers. Outside the rows of the
import table: tests import it, no other module of ours does.
"""
