"""Will a data set train? What is in it, and what is wrong with it."""
