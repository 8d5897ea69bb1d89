"""From a run folder to masks and scores."""
