"""Supervised training: losses against torch and NumPy, devices, exact resume, learning."""

import dataclasses
import functools
import os
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_models

from irl_jax import config as c
from irl_jax import errors
from irl_jax import rewards
from irl_jax import sampling
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.models import encoder
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.runtime import interruption
from irl_jax.runtime import parallel
from irl_jax.training import arguments
from irl_jax.training import examples as examples_lib
from irl_jax.training import optimizer
from irl_jax.training import supervised

SGD = optax.sgd(1.0)  # the change of the parameters is then the gradient


@pytest.fixture(scope='module')
def text_batch():
  """Eight right-padded texts of 2 to 12 tokens."""
  rng = np.random.default_rng(0)
  return batches.text_batch(
    [rng.integers(2, 26, length).tolist() for length in (12, 2, 3, 9, 5, 2, 7, 11)], 0, 12
  )


@pytest.fixture(scope='module')
def problems(policy, classifier, text_batch):
  """(parameters, batch, statics of the update) by the kind of model."""
  labels = np.array([0, 1, 1, 0, 1, 0, 0, 0], np.int32)
  statics = lambda losses, model: dict(
    losses=losses, config=model.config, dtype=jnp.float32, tx=SGD
  )
  return {
    'language_model': (
      policy.params,
      text_batch,
      statics(supervised.language_model_losses, policy),
    ),
    'classifier': (
      classifier.params,
      structs.LabelledBatch(text_batch, labels),
      statics(supervised.classifier_losses, classifier),
    ),
  }


def metrics_of(params, batch, statics):
  """The metrics of an update on one device."""
  state = optimizer.new_state(jax.tree.map(jnp.asarray, params), SGD)
  return jax.jit(functools.partial(supervised.update, axis_name=None, **statics))(state, (), batch)[
    1
  ]


KINDS = pytest.mark.parametrize('kind', ['language_model', 'classifier'])


@pytest.mark.slow
def test_language_model_loss_is_that_of_transformers(policy, text_batch, problems, tmp_path):
  torch = pytest.importorskip('torch')
  import transformers

  pretrained.save(tmp_path / 'policy', policy, '')
  network = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'policy', dtype=torch.float32
  ).eval()
  ids, mask = torch.tensor(text_batch.ids).long(), torch.tensor(text_batch.valid)
  with torch.no_grad():
    expected = network(
      ids, attention_mask=mask.long(), labels=ids.masked_fill(~mask, -100)
    ).loss.item()
  np.testing.assert_allclose(metrics_of(*problems['language_model'])['loss'], expected, atol=1e-4)


@pytest.mark.slow
def test_classifier_loss_is_the_mean_cross_entropy(classifier, problems):
  params, batch, _ = problems['classifier']
  logits = np.asarray(
    encoder.classify(params, batch.text.ids, batch.text.valid, classifier.config), np.float64
  )
  losses = [np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, batch.label)]
  metrics = metrics_of(*problems['classifier'])
  np.testing.assert_allclose(metrics['loss'], np.mean(losses), atol=1e-5)
  np.testing.assert_allclose(metrics['accuracy'], np.mean(logits.argmax(1) == batch.label))


@pytest.mark.slow
@KINDS
def test_four_devices_give_the_gradient_of_one(problems, kind):
  params, batch, statics = problems[kind]
  new = lambda: optimizer.new_state(jax.tree.map(jnp.asarray, params), SGD)
  one, metrics = jax.jit(functools.partial(supervised.update, axis_name=None, **statics))(
    new(), (), batch
  )
  update = parallel.map_update(supervised.update, **statics)
  four, metrics_four = update(parallel.replicate(new()), (), parallel.shard(batch))
  chex.assert_trees_all_close(jax.device_get(four.params), jax.device_get(one.params), atol=1e-5)
  chex.assert_trees_all_close(
    jax.device_get(metrics_four), jax.device_get(metrics), rtol=1e-4, atol=1e-5
  )
  assert metrics['gradient_norm'] > 0.01


@pytest.mark.slow
@KINDS
def test_what_saves_memory_changes_no_gradient(problems, kind):
  params, batch, statics = problems[kind]
  new = lambda: optimizer.new_state(jax.tree.map(jnp.asarray, params), SGD)
  run = lambda **saving: jax.jit(
    functools.partial(supervised.update, axis_name=None, **statics, **saving)
  )(new(), (), batch)
  whole, metrics = run()
  parts, metrics_parts = run(rematerialise=True, micro_batch=3)
  chex.assert_trees_all_close(parts.params, whole.params, atol=1e-5)
  chex.assert_trees_all_close(metrics_parts, metrics, rtol=1e-4, atol=1e-5)


@KINDS
@pytest.mark.usefixtures('tanh_gelu')
def test_shard_map_finds_no_collective_missing(problems, kind):
  params, batch, statics = problems[kind]
  state = optimizer.new_state(jax.tree.map(jnp.asarray, params), SGD)
  mesh = jax.make_mesh((4,), (parallel.AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
  whole, split = jax.P(), jax.P(parallel.AXIS)
  update = functools.partial(supervised.update, axis_name=parallel.AXIS, **statics)
  after, _ = jax.eval_shape(
    jax.shard_map(
      update, mesh=mesh, in_specs=(whole, whole, split), out_specs=(whole, whole), check_vma=True
    ),
    state,
    (),
    batch,
  )
  chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


# Loss, gradient norm and the loss after one step of Adam.
GOLDEN = {
  'language_model': (3.871137, 1.810508, 3.271905),
  'classifier': (0.680877, 1.321686, 0.473255),
}


@pytest.mark.slow
@KINDS
def test_one_step_gives_these_metrics(problems, kind):
  params, batch, statics = problems[kind]
  tx, _ = optimizer.adamw(learning_rate=0.01, updates=10, schedule='constant')
  update = jax.jit(functools.partial(supervised.update, axis_name=None, **statics | {'tx': tx}))
  state, first = update(optimizer.new_state(params, tx), (), batch)
  _, second = update(state, (), batch)
  results = first['loss'], first['gradient_norm'], second['loss']
  np.testing.assert_allclose(results, GOLDEN[kind], rtol=1e-4)


@pytest.mark.slow
@KINDS
def test_bfloat16_computes_about_the_same_and_parameters_stay_float32(problems, kind):
  params, batch, statics = problems[kind]
  tx, _ = optimizer.adamw(learning_rate=0.01, updates=10)
  statics = statics | {'tx': tx}
  start = optimizer.new_state(params, tx)
  run = lambda dtype: jax.jit(
    functools.partial(supervised.update, axis_name=None, **statics | {'dtype': dtype})
  )(start, (), batch)
  (_, expected), (after, metrics) = run(jnp.float32), run(jnp.bfloat16)
  chex.assert_trees_all_equal_shapes_and_dtypes(after, start)
  chex.assert_tree_all_finite((after, metrics))
  for name in ('loss', 'gradient_norm'):
    np.testing.assert_allclose(metrics[name], expected[name], rtol=0.05, err_msg=name)
    assert metrics[name] != expected[name]  # so bfloat16 was used
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(after.params))


TEXTS = ['ab', 'cde', 'fghij', 'klmn'] * 8
SETTINGS = c.Supervised(
  learning_rate=0.02,
  epochs=10,
  batch_size=8,
  warmup_steps=2,
  max_tokens=12,
  weight_decay=0.0,
  checkpoint_every=3,
)


@pytest.fixture(scope='module')
def base(policy):
  params = tiny_models.drawn(trunk.init, policy.config, seed=1)
  return dataclasses.replace(policy, params=params)


@pytest.fixture(scope='module')
def finished(base, tmp_path_factory):
  """(language model, log) of an uninterrupted run."""
  log = {}
  folder = tmp_path_factory.mktemp('whole')
  return supervised.train_language_model(
    base, TEXTS, TEXTS[:8], SETTINGS, 1, folder, log=log.__setitem__
  ), log


@pytest.mark.slow
def test_a_language_model_learns_how_texts_begin_go_on_and_end(finished):
  model, log = finished
  assert list(log) == list(range(3, 40, 4))  # the end of each epoch
  assert log[39]['loss'] < log[3]['loss'] / 3 and log[39]['validation/loss'] < 1
  completions = sampling.complete(
    model, ['cd', 'f', 'ab', ''], c.Sampling(max_new_tokens=12, temperature=0)
  )
  assert completions[:3] == ['e', 'ghij', ''] and completions[3] in TEXTS


@pytest.mark.slow
def test_interrupted_within_an_epoch_it_continues_bit_for_bit(base, finished, tmp_path):
  log = {}

  def interrupting(steps):
    for step in steps:
      if step == 5:  # the second of the second epoch
        os.kill(os.getpid(), signal.SIGTERM)
      yield step

  run = functools.partial(
    supervised.train_language_model,
    base,
    TEXTS,
    TEXTS[:8],
    SETTINGS,
    1,
    tmp_path,
    log=log.__setitem__,
  )
  with interruption.handled(), pytest.raises(interruption.Interrupted):
    run(progress=interrupting)
  resumed_at = []
  with interruption.handled():
    model = run(truncate_log=resumed_at.append)
  assert resumed_at == [6]
  assert log == finished[1]
  chex.assert_trees_all_equal(model.params, finished[0].params)


@pytest.mark.slow
@pytest.mark.parametrize('count', [1, 8, 11])
def test_every_validation_text_counts_once(base, count):
  texts = ['ab', 'cde', '', 'fghij', 'aaaaaaaaaa', 'h', 'klm', 'b', 'jihgf', 'dd', 'fade'][:count]
  examples = examples_lib.language_model_examples(base, texts, 12)
  losses = functools.partial(
    supervised.language_model_losses, config=base.config, dtype=jnp.float32
  )
  metrics = supervised.validate(
    parallel.map_forward(losses), parallel.replicate(base.params), examples, 8
  )
  alone = [
    losses(base.params, examples.batch(np.array([row])))[0]['loss'][0] for row in range(count)
  ]
  assert metrics.keys() == {'validation/loss'}
  tokens = sum(len(text) + 1 for text in texts)  # with the EOS behind each
  np.testing.assert_allclose(metrics['validation/loss'], np.sum(alone) / tokens, rtol=1e-5)


@pytest.mark.slow
def test_without_validation_texts_the_training_is_logged(base, tmp_path):
  log = {}
  settings = dataclasses.replace(SETTINGS, epochs=1)
  supervised.train_language_model(base, TEXTS, [], settings, 1, tmp_path, log=log.__setitem__)
  assert log[3].keys() == {'loss', 'gradient_norm', 'skipped', 'epoch'}


def test_a_loss_that_is_not_finite_ends_training(base, tmp_path):
  log = {}
  non_finite = dataclasses.replace(
    base, params=jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), base.params)
  )
  with pytest.raises(
    errors.DivergedError, match='stage sft, by update 2: the loss is .*Lower config.sft.learning'
  ):
    supervised.train_language_model(
      non_finite, TEXTS, TEXTS[:8], SETTINGS, 1, tmp_path, log=log.__setitem__
    )
  assert not log and not [
    path for path in tmp_path.iterdir() if path.name.isdigit()
  ]  # non-finite parameters are not saved


@pytest.mark.slow
def test_a_classifier_learns_which_letter_is_toxic(classifier, tmp_path):
  rng = np.random.default_rng(0)
  words = [rng.choice(list('bcdefgh'), 6) for _ in range(96)]
  for word in words[1::2]:
    word[rng.integers(6)] = 'a'
  texts, labels, log = [''.join(word) for word in words], [number % 2 for number in range(96)], {}
  fresh = dataclasses.replace(
    classifier, params=tiny_models.drawn(encoder.init, classifier.config, seed=1)
  )
  settings = dataclasses.replace(
    SETTINGS, learning_rate=0.01, epochs=16, batch_size=16
  )  # enough for any order of data
  training, validation = ((texts[part], labels[part]) for part in (slice(80), slice(80, None)))
  model = supervised.train_classifier(
    fresh, training, validation, settings, 0, tmp_path, log=log.__setitem__
  )
  assert log[79]['validation/accuracy'] == 1 and log[79]['loss'] < 0.1
  reward = rewards.true_reward(model)
  assert (reward(['bcdefg', 'hhcegb']) > 0).all() and (reward(['bacdef', 'cgbhad']) < 0).all()


def test_examples_are_whole_texts_between_two_ends(policy, classifier, caplog):
  examples = examples_lib.language_model_examples(policy, ['ab', '', 'abcdefghijkl'], 6)
  assert examples.sequences == [
    [0, 3, 4, 0],
    [0, 0],
    [0, 3, 4, 5, 6, 7],
  ]  # long ones are cut on the right
  examples = examples_lib.classifier_examples(classifier, ['ab', 'w' * 60], [1, 0], 64)
  assert examples.sequences == [[0, 5, 6, 2], [0, *[27] * 48, 2]]
  assert '1 of 2 texts of the classifier is longer than 50 tokens: cut on the left' in caplog.text
  batch = examples.batch(np.array([1, 0]))
  np.testing.assert_array_equal(batch.label, [0, 1])
  assert batch.text.ids.shape == (2, 50)  # no more than the model has positions for
  logits = encoder.classify(classifier.params, batch.text.ids, batch.text.valid, classifier.config)
  assert np.isfinite(logits).all()


@pytest.mark.parametrize(
  'texts, labels, problem',
  [
    ('ab', [0, 1], 'texts: must be a list of strings, not str'),
    (['a', 'b'], [0], r'labels: has shape \[1\], but must have 2, one for each text'),
    (['a', 'b'], 1, r'labels: has shape \[\], but must have 2'),
    (['a', 'b'], [0, 0.7], r'labels: must be whole numbers from 0 to 1, not \[0, 0.7\]'),
    (['a', 'b'], [0, 2], 'labels: must be whole numbers from 0 to 1'),
    (['a', 'b'], [0, None], 'labels: must be whole numbers from 0 to 1'),
  ],
)
def test_labels_that_a_classifier_cannot_have_are_refused(classifier, texts, labels, problem):
  with pytest.raises((errors.ConfigError, errors.InputError), match=problem):
    examples_lib.classifier_examples(classifier, texts, labels, 64)


@pytest.mark.parametrize(
  'changes, problem',
  [
    ({'model': 'gpt2'}, "model = 'gpt2': must be a loaded model"),
    ({'config': None}, 'config: must be an irl_jax.config.Supervised, not NoneType'),
    ({'texts': []}, 'sft: there are no texts to train on'),
    ({'seed': -1}, 'seed = -1: must be a whole number >= 0'),
    ({'folder': ''}, "folder = '': must be a path"),
    ({'dtype': 'float16'}, "dtype = 'float16': must be float32 or bfloat16"),
    ({'runtime': {}}, 'runtime: must be an irl_jax.config.Runtime, not dict'),
    ({'log': None}, r'log = None: must be a function; lambda \*_: None does nothing'),
    ({'progress': 5}, 'progress = 5: must be a function; iter does nothing'),
  ],
)
def test_wrong_arguments_of_language_models_are_refused(policy, tmp_path, changes, problem):
  given = dict(model=policy, texts=['a b'], validation=[], config=c.Supervised(), seed=0)
  given |= {'folder': tmp_path / 'new', 'log': lambda *_: None}
  with pytest.raises((errors.ConfigError, errors.InputError), match=problem):
    supervised.train_language_model(**given | changes)
  assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize(
  'changes, problem',
  [
    ({'labelled': [('a', 1)]}, r'labelled: must be \(texts, labels\), a list of each'),
    ({'validation': None}, r'validation: must be \(texts, labels\), a list of each'),
    ({'labelled': ([], [])}, 'classifier: there are no texts to train on'),
  ],
)
def test_wrong_arguments_of_classifiers_are_refused(classifier, tmp_path, changes, problem):
  given = dict(model=classifier, labelled=(['a'], [1]), validation=([], []), seed=0)
  given |= {'config': c.Supervised(), 'folder': tmp_path / 'new', 'log': lambda *_: None}
  with pytest.raises((errors.ConfigError, errors.InputError), match=problem):
    supervised.train_classifier(**given | changes)
  with pytest.raises(errors.InputError, match='model: is a classifier; must be causal_lm'):
    arguments.check_policy(classifier, 'model')


@pytest.mark.parametrize('given', [None, [('loss', 1.0)], {1: 2.0}])
def test_a_report_that_gives_no_metrics_is_refused_by_name(given):
  def loss_of(texts):
    return given

  with pytest.raises(errors.InputError, match='report .*loss_of: returned .*: must return a dict'):
    arguments.reported(loss_of, ['a'])
