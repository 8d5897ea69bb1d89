"""The commands: each parses its flags, calls the package once, and prints the result."""
