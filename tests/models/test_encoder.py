"""RoBERTa: parity with transformers (torch), and independence of padding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models

from irl_jax import rewards
from irl_jax.models import encoder
from irl_jax.models import huggingface
from irl_jax.models import pretrained

CONFIG = encoder.EncoderConfig(
  vocab_size=97,
  hidden_size=32,
  num_hidden_layers=3,
  num_attention_heads=4,
  intermediate_size=48,
  max_position_embeddings=22,
)
classify = jax.jit(encoder.classify, static_argnums=(3, 4))  # config and dtype


def batch(seed=0, rows=4, length=12, vocabulary=97):
  """Returns right-padded ids [B, S] and valid [B, S]; one row is full, one has a single token."""
  rng = np.random.default_rng(seed)
  lengths = np.array([length, 1, *rng.integers(2, length, rows - 2)])
  valid = np.arange(length) < lengths[:, None]
  ids = np.where(valid, rng.integers(2, vocabulary, (rows, length)), 1)
  return ids.astype(np.int32), valid


def random_params(config=CONFIG, seed=0):
  """Returns parameters; every leaf is random, biases and norms too."""
  shapes = jax.eval_shape(lambda key: encoder.init(key, config), jax.random.key(0))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)


def torch_logits(folder, ids, valid):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  model = transformers.AutoModelForSequenceClassification.from_pretrained(
    folder, dtype=torch.float32
  ).eval()
  with torch.no_grad():
    return model(torch.tensor(ids).long(), attention_mask=torch.tensor(valid).long()).logits.numpy()


@pytest.mark.device
@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'type_vocab_size': 2, 'labels': ('a', 'b', 'c')},
    {'num_hidden_layers': 1, 'layer_norm_eps': 1e-3, 'num_attention_heads': 1},
  ],
)
def test_random_models_score_as_in_torch(tmp_path, changes):
  torch = pytest.importorskip('torch')
  from transformers import RobertaConfig
  from transformers import RobertaForSequenceClassification

  config = dataclasses.replace(CONFIG, **changes)
  shape = dataclasses.asdict(config)
  names = shape.pop('labels')
  torch.manual_seed(0)
  model = RobertaForSequenceClassification(
    RobertaConfig(**shape, id2label=dict(enumerate(names)))
  ).eval()
  for parameter in model.parameters():
    parameter.data += 0.3 * torch.randn_like(parameter)
  weights = [(name, value.detach().numpy()) for name, value in model.state_dict().items()]
  params = huggingface.weights.to_params('classifier', config, weights, 'test')
  ids, valid = batch()
  with torch.no_grad():
    expected = model(
      torch.tensor(ids).long(), attention_mask=torch.tensor(valid).long()
    ).logits.numpy()
  np.testing.assert_allclose(classify(params, ids, valid, config), expected, atol=1e-4, rtol=0)
  assert np.ptp(expected) > 1


SHAPE = {
  'vocab_size': 97,
  'max_position_embeddings': 20,
  'problem_type': 'multi_label_classification',
}
BERT = {
  'hidden_size': 32,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'intermediate_size': 48,
}
FAMILIES = {  # the class in transformers, and its config
  'XLMRoberta': BERT | {'max_position_embeddings': 22},
  'Bert': BERT,
  'DistilBert': {'dim': 32, 'n_layers': 2, 'n_heads': 4, 'hidden_dim': 48},
}


@pytest.mark.parametrize('name', FAMILIES)
def test_other_families_score_as_in_torch_and_are_written_as_they_were(tmp_path, name):
  torch = pytest.importorskip('torch')
  import transformers

  torch.manual_seed(0)
  shape = SHAPE | FAMILIES[name] | {'id2label': dict(enumerate(('toxic', 'obscene', 'threat')))}
  config = getattr(transformers, f'{name}Config')(**shape)
  model = getattr(transformers, f'{name}ForSequenceClassification')(config).eval()
  for parameter in model.parameters():
    parameter.data += 0.3 * torch.randn_like(parameter)
  model.save_pretrained(tmp_path)
  raw = huggingface.weight_files.read_json(tmp_path / 'config.json')
  kind, ours = huggingface.config.parse(raw, name)
  assert kind == 'classifier' and ours.max_tokens == 20
  stream = dict(huggingface.weight_files.stream(tmp_path))
  params = huggingface.weights.to_params(kind, ours, stream.items(), name)
  ids, valid = batch(length=20)
  ids = np.where(valid, ids, ours.pad_token_id)
  with torch.no_grad():
    expected = model(
      torch.tensor(ids).long(), attention_mask=torch.tensor(valid).long()
    ).logits.numpy()
  logits = classify(params, ids, valid, ours)
  np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)
  assert np.ptp(expected) > 1
  written = huggingface.weights.from_params(ours, params)
  assert written.keys() == stream.keys()
  assert all(np.array_equal(written[name], stream[name]) for name in stream)
  back = huggingface.config.to_json(kind, ours, ours.pad_token_id)
  assert huggingface.config.parse(back, name) == (kind, ours)
  assert (
    rewards.activation_of(pretrained.Pretrained('classifier', ours, params, None, raw)) == 'sigmoid'
  )


def test_the_trained_classifier_scores_as_in_torch(shared):
  folder = shared / 'models/roberta_toxicity_mini'
  model = pretrained.load(str(folder))
  texts = ['you are a wonderful person', 'You stupid idiot, shut up!', '', 'naïve — 🙂 ' * 20]
  encoded = model.tokenizer(texts, padding=True, return_tensors='np')
  ids, valid = encoded['input_ids'].astype(np.int32), encoded['attention_mask'].astype(bool)
  logits = np.asarray(classify(model.params, ids, valid, model.config))
  np.testing.assert_allclose(logits, torch_logits(folder, ids, valid), atol=1e-4, rtol=0)
  assert logits[0].argmax() == 0 and logits[1].argmax() == 1


def test_padding_and_what_it_holds_change_nothing():
  params = random_params()
  ids, valid = batch()
  logits = classify(params, ids, valid, CONFIG)
  other = np.where(valid, ids, 50)
  wider = np.pad(other, ((0, 0), (0, 5))), np.pad(valid, ((0, 0), (0, 5)))
  np.testing.assert_allclose(classify(params, other, valid, CONFIG), logits, atol=1e-6)
  np.testing.assert_allclose(classify(params, *wider, CONFIG), logits, atol=1e-5)


def test_a_row_without_tokens_is_finite():
  ids, valid = batch()
  logits = classify(random_params(), ids, np.zeros_like(valid), CONFIG)
  assert np.isfinite(logits).all()


@pytest.mark.slow
def test_bfloat16_is_close_and_its_result_float32():
  params = tiny_models.drawn(encoder.init, CONFIG)
  ids, valid = batch()
  exact = classify(params, ids, valid, CONFIG)
  rounded = classify(params, ids, valid, CONFIG, jnp.bfloat16)
  assert rounded.dtype == jnp.float32
  np.testing.assert_allclose(rounded, exact, atol=0.02 * np.abs(exact).max() + 1e-3)


def test_texts_longer_than_the_positions_are_refused():
  ids = np.full((1, CONFIG.max_tokens + 1), 5, np.int32)
  with pytest.raises(ValueError, match='at most 20'):
    classify(random_params(), ids, np.ones_like(ids, bool), CONFIG)
  assert classify(random_params(), ids[:, 1:], np.ones_like(ids, bool)[:, 1:], CONFIG).shape == (
    1,
    2,
  )
