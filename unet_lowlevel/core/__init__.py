"""The book: what the network and its training are. It knows nothing of the tool around it. Tour: README.md."""
