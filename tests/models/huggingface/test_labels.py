"""A classifier's toxic label: found, logged, refused or named; and the reward from its logits."""

import pytest

from irl_jax.errors import ConfigError
from irl_jax.errors import InputError
from irl_jax.models.huggingface import labels


@pytest.mark.parametrize(
  'names, index',
  [
    (('neutral', 'toxic'), 1),
    (('TOXIC', 'fine'), 0),
    (('a', 'b', 'Toxic'), 2),
    (('toxic', 'severe_toxic', 'obscene', 'threat', 'insult', 'identity_hate'), 0),
  ],
)
def test_a_label_named_toxic_is_taken_in_silence(names, index, caplog):
  assert labels.toxic_label(names) == index
  assert not caplog.text


@pytest.mark.parametrize(
  'names, index',
  [
    (('LABEL_0', 'LABEL_1'), 1),
    (('nontoxisch', 'toxisch'), 1),
    (('0', '1'), 1),
    (('1', '0'), 0),
    (('no', 'yes'), 1),
    (('nothate', 'hate'), 1),
    (('hate', 'nothate'), 0),
    (('toxic_comment', 'non-toxic'), 0),
    (('HATE-SPEECH', 'NORMAL'), 0),
    (('NotOffensive', 'Offensive'), 1),
    (('offensive', 'notOffensive'), 0),
    (('NOT', 'OFF'), 1),
    (('OFF', 'NOT'), 0),
    (('sexist', 'not sexist'), 0),
    (('Not OK', 'OK'), 0),
    (('unsafe', 'safe'), 0),
    (('noxious', 'clean'), 0),
    (('neutral', 'clickbait'), 1),
  ],
)
def test_of_two_labels_the_one_that_means_harm_is_taken_and_logged(names, index, caplog):
  assert labels.toxic_label(names, 'MODEL') == index
  message = f'MODEL: assumes that label {index}, {names[index]!r}, means toxic, of {list(names)}'
  assert caplog.text.count(message) == 1
  assert 'config.models.label (score: --label) names another' in caplog.text
  labels.toxic_label(names, 'MODEL')
  assert caplog.text.count(message) == 1


@pytest.mark.parametrize(
  'names',
  [
    ('a',),
    ('a', 'b', 'c'),
    ('human', 'machine'),  # each says something else
    ('ham', 'spam'),
    ('toxic', 'Toxic'),
    ('NEGATIVE', 'POSITIVE'),
    ('negative', 'neutral'),
    ('hate', 'offensive'),
    ('safe', 'clean'),
  ],
)
def test_names_that_do_not_say_which_is_toxic_are_refused(names):
  with pytest.raises(
    InputError, match='the label names do not show .*; name it in config.models.label'
  ):
    labels.toxic_label(names)
  assert [labels.toxic_label(names, chosen=str(index)) for index in range(len(names))] == list(
    range(len(names))
  )


@pytest.mark.parametrize('chosen, index', [('hate', 0), ('NotHate', 1), ('1', 1)])
def test_the_label_that_is_named_is_taken(chosen, index, caplog):
  assert labels.toxic_label(('Hate', 'nothate'), chosen=chosen) == index
  assert not caplog.text


def test_a_name_goes_before_a_number():
  assert labels.toxic_label(('1', '0'), chosen='0') == 1


@pytest.mark.parametrize('chosen', ['hat', '2', '-1'])
def test_a_label_that_is_not_there_is_refused(chosen):
  with pytest.raises(ConfigError, match=f"MODEL: has no label '{chosen}'; its labels: .'a', 'b'.;"):
    labels.toxic_label(('a', 'b'), 'MODEL', chosen)


@pytest.mark.parametrize(
  'problem, count, expected',
  [
    (None, 2, 'softmax'),
    ('single_label_classification', 6, 'softmax'),
    ('multi_label_classification', 6, 'sigmoid'),
    (None, 1, 'sigmoid'),
    ('regression', 1, 'none'),
  ],
)
def test_probabilities_are_those_of_transformers_pipeline(problem, count, expected):
  assert labels.activation({'problem_type': problem}, count) == expected
