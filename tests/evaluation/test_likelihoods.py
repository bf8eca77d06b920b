"""The log-ratio of two language models, against transformers (torch)."""

import numpy as np
import pytest

from irl_jax import api
from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.evaluation import likelihoods
from irl_jax.models import pretrained

PAIRS = [('ab', 'ba'), ('', 'abc'), ('a b', ''), ('abba', 'b')]
PROMPTS, TEXTS = map(list, zip(*PAIRS))


def torch_log_probs(folder, pairs):
  """Returns the log-probability of each completion given its prompt, or EOS."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
  encode = pretrained.load_tokenizer(str(folder)).encode
  sums = []
  for prompt, completion in pairs:
    before, after = encode(prompt) or [network.config.eos_token_id], encode(completion)
    with torch.no_grad():
      log_probs = torch.log_softmax(network(torch.tensor([before + after])).logits[0], -1)
    places = range(len(before), len(before) + len(after))
    sums.append(sum(log_probs[p - 1, t].item() for p, t in zip(places, after)))
  return np.array(sums)


@pytest.mark.slow
@pytest.mark.parametrize('prompts', [PROMPTS, None])
def test_completions_have_the_log_ratio_of_torch(audited, prompts):
  pairs = list(zip(prompts or [''] * len(TEXTS), TEXTS))
  scores = api.log_ratio(audited['aligned'], audited['base'], TEXTS, prompts)
  aligned, base = (torch_log_probs(audited[name], pairs) for name in ('aligned', 'base'))
  np.testing.assert_allclose(scores['log_prob'], aligned, atol=1e-4)
  np.testing.assert_allclose(scores['reference_log_prob'], base, atol=1e-4)
  np.testing.assert_allclose(scores['log_ratio'], aligned - base, atol=2e-4)
  tokens = scores['tokens']
  assert tokens.tolist() == [len(text) for text in TEXTS]
  np.testing.assert_allclose(scores['log_ratio_per_token'] * tokens, scores['log_ratio'])
  assert np.ptp(scores['log_ratio']) > 0.01


def test_a_model_against_itself_and_no_text(audited):
  assert not api.log_ratio(audited['base'], audited['base'], TEXTS)['log_ratio'].any()
  assert api.log_ratio(audited['base'], audited['base'], [])['log_ratio'].shape == (0,)


def test_what_cannot_be_compared_is_refused(audited, classifier):
  with pytest.raises(ConfigError, match='prompts: has 1 for 4 texts; must have one for each'):
    api.log_ratio(audited['base'], audited['base'], TEXTS, ['a'])
  with pytest.raises(InputError, match='only a causal language model gives the log-probability'):
    api.log_ratio(audited['base'], classifier, TEXTS)


def test_every_prefix_of_a_text_has_the_log_ratio_of_the_prefix_alone(audited):
  aligned, base = (
    pretrained.load_language_model(str(audited[side])) for side in ('aligned', 'base')
  )
  ids = [base.tokenizer.encode(text) for text in ('abba', 'b', 'a b')]
  found = likelihoods.cumulative_log_ratios(aligned, base, ids, 16)
  log_prob = {
    side: likelihoods.text_log_prob(model, 16) for side, model in (('a', aligned), ('b', base))
  }
  for row, tokens in zip(found, ids, strict=True):
    prefixes = [base.tokenizer.decode(tokens[: end + 1]) for end in range(len(tokens))]
    np.testing.assert_allclose(row, log_prob['a'](prefixes) - log_prob['b'](prefixes), atol=1e-4)
  assert np.ptp(found[0]) > 0.01


def test_a_text_as_long_as_the_models_positions_begins_with_its_own_first_token(audited):
  base = pretrained.load_language_model(str(audited['base']))
  longest = base.config.max_position_embeddings
  (found,) = likelihoods.cumulative_log_ratios(base, base, [[2] * longest], 16)
  assert found.shape == (longest,) and not found.any()
