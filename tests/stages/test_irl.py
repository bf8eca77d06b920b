"""The irl stage: the demonstrations of each objective, their prompts, and the zero."""

import jax.numpy as jnp
import pytest

from irl_jax.config import Config
from irl_jax.config import IRL
from irl_jax.config import Models
from irl_jax.data import rows as rows_lib
from irl_jax.irl import loop
from irl_jax.models import pretrained
from irl_jax.runtime import metrics_log
from irl_jax.stages import irl as recovery
from irl_jax.stages.run import Run

ENTROPY = IRL(objective='maximum_entropy', samples_per_prompt=2)
ROWS = [
  {
    'prompt': prompt,
    'original': '',
    'aligned': aligned,
    'base': base,
    'true_reward_aligned': None,
    'true_reward_base': None,
  }
  for prompt, aligned, base in [('a', 'b', 'c'), ('a', 'd', 'd'), ('e', 'f', 'g'), ('e', 'h', 'i')]
]


@pytest.mark.parametrize(
  'settings, prompts', [(IRL(samples_per_prompt=2), ['a', 'e', 'e']), (ENTROPY, list('aaee'))]
)
def test_a_mean_over_the_samples_of_a_prompt_needs_them_all(
  tmp_path, policy, monkeypatch, settings, prompts
):
  class Trained(Exception):
    """What training was given."""

  def train(base, training, validation, *unused, prompts, **more):
    raise Trained(len(training), len(validation), prompts)

  monkeypatch.setattr(loop, 'train', train)
  monkeypatch.setattr(pretrained, 'load', lambda *unused: policy)
  for split in ('train', 'validation'):
    rows_lib.write_jsonl(tmp_path / 'demos' / f'{split}.jsonl', ROWS)
    rows_lib.write_jsonl(tmp_path / 'data' / f'{split}.jsonl', ROWS)
  with metrics_log.MetricsLog(tmp_path, '') as log, pytest.raises(Trained) as given:
    recovery.irl(
      Run(
        Config(stages=('irl',), irl=settings, models=Models(base='M')), tmp_path, log, jnp.float32
      )
    )
  assert given.value.args == (len(prompts), 3, prompts)
