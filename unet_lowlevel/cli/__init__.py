"""The commands: flags in, one call into the package, sentences out."""
