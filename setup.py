"""Installs irl_jax: `pip install -e .`, with extras test, dev, docs, parity (torch), wandb, cuda12, cuda13 and tpu."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
  r"__version__ = '(.+)'", (ROOT / 'irl_jax' / '__init__.py').read_text(encoding='utf-8')
).group(1)
README = ROOT / 'README.md'

setuptools.setup(
  name='irl_jax',
  version=VERSION,
  description='Recovers the reward that a language model was trained for, by inverse reinforcement learning in JAX',
  long_description=README.read_text(encoding='utf-8') if README.exists() else '',
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['irl_jax', 'irl_jax.*']),
  package_data={'irl_jax.report': ['page.css', 'template.html.j2']},
  install_requires=[
    'absl-py>=2.1',
    'chex>=0.1.90',
    'datasets>=4.0',
    'flax>=0.12',
    'huggingface_hub>=1.3',
    'jax>=0.10',
    'jinja2>=3.1',
    'matplotlib>=3.9',
    'ml_dtypes>=0.5',
    'numpy>=2.0',
    'optax>=0.2.8',  # older ones fail to import on JAX 0.10
    'orbax-checkpoint>=0.12',
    'pyarrow>=17.0',
    'rich>=13.0',
    'safetensors>=0.5',
    'scipy>=1.15',  # stats.bootstrap takes rng
    'tensorboardX>=2.6',
    'tokenizers>=0.22.1',
    'tqdm>=4.66.3',
    'transformers>=5.0',
  ],
  extras_require={
    'test': [
      'hypothesis>=6.100',
      'ipykernel>=6.29',
      'nbclient>=0.10',
      'nbformat>=5.10',
      'pytest>=8.0',
      'pytest-xdist>=3.5',
    ],
    'dev': ['mypy>=1.15', 'pre-commit>=4.0', 'ruff>=0.14'],
    'docs': ['mkdocs>=1.6,<2', 'mkdocs-material>=9.6', 'mkdocstrings[python]>=0.29'],
    'parity': ['torch==2.13.0'],  # the tests that hold our models against transformers' own
    'wandb': ['wandb>=0.18'],
    'cuda12': ['jax[cuda12]>=0.10'],
    'cuda13': ['jax[cuda13]>=0.10'],
    'tpu': ['jax[tpu]>=0.10'],
  },
  classifiers=[
    'Intended Audience :: Science/Research',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
