"""The settings that the data decides, each with its reason."""
