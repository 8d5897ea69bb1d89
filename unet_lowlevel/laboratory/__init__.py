"""Experiments that teach: each asks one question of the network, and answers it with a picture and a table."""
