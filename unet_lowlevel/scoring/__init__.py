"""Scores: what an image adds, and what the sums over images say.

What an image adds is an array that may be added over images; scores follow from such arrays or from their sums [...],
so that a score of all images together, of each image, and of images drawn at random come from one equation.
"""

# What is scored beside single pixels, when asked for: the keys of `scorers.SCORERS`.
SCORES = ("instances", "surfaces", "boundaries")
