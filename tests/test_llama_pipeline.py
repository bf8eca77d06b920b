"""The whole path on a relative of Llama: interrupted, exported, and the same in transformers."""

import dataclasses
import pathlib
import signal

import numpy as np
import pytest
import tiny_models

import irl_jax
from irl_jax import pipeline
from irl_jax.command_line import config_files
from irl_jax.config import Models
from irl_jax.data.playground import comments
from irl_jax.data.playground import tokenizers
from irl_jax.evaluation import likelihoods
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.runtime import interruption
from irl_jax.runtime import metrics_log

pytestmark = pytest.mark.slow  # every test reads a whole run

SMOKE = config_files.load(str(pathlib.Path(__file__).parents[1] / 'configs' / 'smoke.py'))
TEXTS = ['what a lovely day', 'you are a complete idiot', 'i agree']


@pytest.fixture(scope='module')
def base(any_policy, tmp_path_factory) -> pathlib.Path:
  """A folder with a random model that reads the playground's comments."""
  tokenizer = tokenizers.language_model_tokenizer(
    str(row['text']) for row in comments.comments(400, 0)
  )
  config = dataclasses.replace(any_policy.config, vocab_size=tokenizers.padded_size(tokenizer))
  params = tiny_models.drawn(trunk.init, config)
  folder = tmp_path_factory.mktemp('models') / 'base'
  pretrained.save(folder, pretrained.Pretrained('causal_lm', config, params, tokenizer), '')
  return folder


@pytest.fixture(scope='module')
def finished(base, tmp_path_factory) -> pathlib.Path:
  """The folder of a run that was interrupted in PPO and in IRL, and continued."""
  config = dataclasses.replace(
    SMOKE,
    models=Models(base=str(base)),
    sft=dataclasses.replace(SMOKE.sft, epochs=1),
    irl=dataclasses.replace(SMOKE.irl, seeds=1, trained_blocks=2),
  )
  folder, log, seen = tmp_path_factory.mktemp('run'), metrics_log.MetricsLog.log, []

  def log_and_interrupt(self, stage, step, metrics):
    log(self, stage, step, metrics)
    if stage in ('rlhf', 'irl/seed_0') and stage not in seen:
      seen.append(stage)
      signal.raise_signal(signal.SIGTERM)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(metrics_log.MetricsLog, 'log', log_and_interrupt)
    for _ in range(2):
      with pytest.raises(interruption.Interrupted):
        pipeline.run(config, folder)
    summary = pipeline.run(config, folder)
  for stage in ('rlhf', 'rerlhf'):
    before, after = summary[stage]['before'], summary[stage]['after']
    # The estimate of a KL that is nearly 0 may be negative.
    assert before['kl'] == 0 and 0 < abs(after['kl_per_token']) < 0.05
  return folder


only_gemma = pytest.mark.parametrize('any_policy', ['gemma3_text'], indirect=True, scope='session')


@only_gemma
def test_the_exported_policy_is_the_same_in_transformers(finished):
  torch = pytest.importorskip('torch')
  import transformers

  folder = finished / 'rlhf' / 'policy'
  network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
  model = pretrained.load(str(folder))
  found = likelihoods.text_log_prob(model)(TEXTS)
  for text, score in zip(TEXTS, found):
    ids = torch.tensor([[model.config.eos_token_id, *model.tokenizer(text)['input_ids']]])
    with torch.no_grad():
      log_probs = network(ids).logits.log_softmax(-1)[0, :-1]
    expected = log_probs.gather(1, ids[0, 1:, None]).sum().item()
    assert score == pytest.approx(expected, abs=1e-3)


@only_gemma
def test_the_exported_reward_is_the_same_in_transformers_but_for_its_zero(finished):
  torch = pytest.importorskip('torch')
  import transformers

  folder = finished / 'irl' / 'seed_0' / 'reward'
  network = transformers.AutoModelForSequenceClassification.from_pretrained(
    folder, dtype=torch.float32
  ).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  with torch.no_grad():
    scores = [network(torch.tensor([tokenizer(text)['input_ids']])).logits.item() for text in TEXTS]
  zero = pretrained.read_config(str(folder))['reward_zero']
  assert zero and f'{zero:.6g}' in (folder / 'README.md').read_text()
  found = irl_jax.load_reward(str(folder))(TEXTS)
  np.testing.assert_allclose(found, np.array(scores) - zero, atol=1e-4)
  ensemble = irl_jax.load_reward(str(finished / 'irl'))(TEXTS)
  np.testing.assert_allclose(ensemble, found, atol=1e-6)
