"""``python -m bench``: measure, write ``bench/results/*.json`` and ``bench/RESULTS.md``.

Goes over into the peers' environment where ``python -m bench --install-peers`` has made one.
"""

import sys

from bench.peers.install import enter, install

if "--install-peers" in sys.argv:
    install()
else:
    enter("bench", sys.argv[1:])
    from bench.passes import main

    main()
