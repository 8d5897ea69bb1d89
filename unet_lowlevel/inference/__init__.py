"""From a run folder to masks and scores."""

# Side in pixels of the largest window that is computed at once: about 1 GiB of features for the default network.
TILE_SIZE = 2048
# What `evaluation.evaluate` computes when asked to.
SCORES = ("instances", "surfaces", "boundaries")
