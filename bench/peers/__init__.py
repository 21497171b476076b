"""The same passes as run by other software; the versions are in ``bench/peers.txt``."""
