"""The report stage collects the results of finished stages in order, and writes the page."""

import json

import numpy as np

from irl_jax import config as config_lib
from irl_jax.runtime import records
from irl_jax.runtime import workdir
from irl_jax.stages import report as summary
from irl_jax.stages import run as run_lib


def test_figures_are_collected_and_shown(tmp_path):
  config = config_lib.Config(name='collected')
  run = run_lib.Run(config, tmp_path, None, np.float32)
  workdir.write_json(tmp_path / 'config.json', {'config': workdir.plain(config), 'versions': {}})
  figures = {
    'rerlhf': {'before': {}, 'after': {'kl': 2.0}},
    'rlhf': {'before': {}, 'after': {'kl': 1.0}},
    'irl': {'irl': {'seeds': []}, 'true_reward': {'human_accuracy': 0.9}},
  }
  for stage, found in figures.items():
    (tmp_path / stage).mkdir()
    workdir.write_json(tmp_path / stage / 'figures.json', found)
  summary.report(run)
  collected = json.loads((tmp_path / 'summary.json').read_text())
  assert (
    list(collected) == ['schema', 'true_reward', 'rlhf', 'irl', 'rerlhf']
    and collected['rlhf'] == figures['rlhf']
    and collected['schema'] == records.SCHEMA == 1
  )
  page = (tmp_path / 'report.html').read_text()
  assert (
    'No reward was recovered' in page and 'collected' in page and '90.0\u00a0% of the texts' in page
  )
