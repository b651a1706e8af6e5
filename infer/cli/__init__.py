"""The commands: configuration, checks, one-line errors."""
