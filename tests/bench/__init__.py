"""`make bench`: NORA beside Debian's docker-registry and nginx, on one machine, in one run.

Servers take turns within each row, so that a busy minute hits all of them; what is told is medians and ratios.
"""
