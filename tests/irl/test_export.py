"""A recovered reward as a model of transformers: bound and zero are folded in, exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import errors
from irl_jax import rewards
from irl_jax.config import IRL
from irl_jax.data import batches
from irl_jax.irl import export
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import reward as reward_lib
from irl_jax.models import cut as cut_lib
from irl_jax.models import heads
from irl_jax.models import llama
from irl_jax.models import pretrained

TEXTS = ['a', 'hello there', '', ' what a bad cat', 'ab' * 20]


@pytest.fixture(scope='module')
def trained(any_policy):
  """The whole parameters that IRL trains."""
  trunk = {name: any_policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  return trunk | {
    'reward_head': {'direction': 5 * heads.init_reward_head(jax.random.key(1), 16)['direction']}
  }


@pytest.fixture(scope='module')
def bounded(any_policy, trained):
  """Returns R̂ of TEXTS as the update computes it; the empty text is EOS alone."""
  pairs = pairs_lib.encode_pairs(any_policy, TEXTS, TEXTS, 64)
  texts = batches.text_batch([ids for ids, _ in pairs], 0)
  bound = dict(config=any_policy.config, dtype=jnp.float32, pooling='last')
  return np.asarray(jax.jit(functools.partial(reward_lib.reward, **bound))(trained, {}, texts))


@pytest.mark.parametrize('zero', [0.0, 0.3, -0.9])
@pytest.mark.parametrize('trained_blocks', [-1, 0, 2])
def test_folding_is_exact(any_policy, trained, bounded, trained_blocks, zero):
  model = export.reward_model(any_policy, cut_lib.split(trained, trained_blocks), zero)
  assert model.kind == 'reward' and set(model.params) == {
    'embed_in',
    'blocks',
    'final_layer_norm',
    'score',
  }
  scores = rewards.recovered_reward(model)(TEXTS)
  np.testing.assert_allclose(scores, (bounded - zero) / (1 + abs(zero)), atol=1e-6)
  assert np.ptp(scores) > 0.1


def test_without_a_zero_the_reward_stays_as_it_was_trained(any_policy, trained, bounded):
  uncentred = export.reward_model(any_policy, (trained, {}))
  np.testing.assert_allclose(rewards.recovered_reward(uncentred)(TEXTS), bounded, atol=1e-6)


def test_a_mean_over_tokens_has_no_exported_form():
  with pytest.raises(
    errors.ConfigError,
    match='config.irl.pooling = mean: .* cannot be exported .*; set config.irl.pooling=last',
  ):
    export.check(IRL(pooling='mean'))
  export.check(IRL())


def test_transformers_give_the_same_number(any_policy, trained, bounded, tmp_path):
  torch = pytest.importorskip('torch')
  import transformers

  folder = tmp_path / 'reward'
  pretrained.save(folder, export.reward_model(any_policy, (trained, {}), 0.25), '')
  network = transformers.AutoModelForSequenceClassification.from_pretrained(
    folder, dtype=torch.float32
  ).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  found = []
  for text in TEXTS:
    ids = tokenizer(text)['input_ids'] or [tokenizer.eos_token_id]
    with torch.no_grad():
      found.append(network(torch.tensor([ids])).logits.item())
  # transformers does not know `reward_zero`, which a family without biases in its norms needs.
  zero = pretrained.read_config(str(folder)).get('reward_zero', 0.0)
  is_relative = isinstance(any_policy.config, llama.LlamaConfig)
  np.testing.assert_allclose(zero, 0.25 / 1.25 if is_relative else 0.0, rtol=1e-6)
  found = np.array(found) - zero
  np.testing.assert_allclose(found, (bounded - 0.25) / 1.25, atol=1e-4, rtol=0)
  with torch.no_grad():
    padded = (
      network(
        **tokenizer(
          [text for text in TEXTS if text],
          padding=True,
          padding_side='right',
          return_token_type_ids=False,
          return_tensors='pt',
        )
      )
      .logits[:, 0]
      .numpy()
    )
  np.testing.assert_allclose(
    padded - zero, [score for score, text in zip(found, TEXTS) if text], atol=1e-4, rtol=0
  )
  np.testing.assert_allclose(rewards.load(str(folder))(TEXTS), found, atol=1e-4, rtol=0)
