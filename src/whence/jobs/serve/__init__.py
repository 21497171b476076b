"""`whence serve`: the runs of a folder as pages on this machine, for whoever was told the address.

gate        who may ask                                   handler   HTTP
site        what each address shows                       job       started, and served until interrupted
listing     the runs of a folder                          progress  the job at work on one
explored    one run, opened and kept                      listed    a list of documents
search      every document's text, searched               columns   metadata to choose by
order       rankings, and pieces of them                  question, document    one of either

It reads what runs have written and writes nothing. The model is never loaded.
"""

from whence.jobs.serve.job import Explorer, explorer

__all__ = ["Explorer", "explorer"]
