"""The stages of a run, each in a module of its name, and their shared parts."""
