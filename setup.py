"""Installs irl_jax: `pip install -e .`; the dependencies and extras are in pyproject.toml.

Only computed values are here: the version, the packages, and configs/, which becomes
irl_jax/configs in the package.
"""

import pathlib
import runpy

import setuptools

VERSION = runpy.run_path(str(pathlib.Path(__file__).parent / 'irl_jax' / 'version.py'))

setuptools.setup(
  version=VERSION['__version__'],
  packages=[*setuptools.find_packages(include=['irl_jax', 'irl_jax.*']), 'irl_jax.configs'],
  package_dir={'irl_jax.configs': 'configs'},
  package_data={'irl_jax': ['py.typed'], 'irl_jax.report': ['page.css', 'template.html.j2']},
)
