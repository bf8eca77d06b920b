"""The version of irl_jax: setup.py, `--version`, reports and run folders read it here."""

__version__ = '0.1.0'
