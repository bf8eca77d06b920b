"""The commands of `irl-jax`, which launch/*.py call too: flags, --help, errors and exit codes."""
