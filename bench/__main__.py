"""``python -m bench``: measure, write ``bench/results/*.json`` and ``bench/RESULTS.md``."""

from bench.passes import main

main()
