"""The five lines: yes if all is well, and no, in words, if one result is bad."""

import re
import statistics

import hypothesis
from hypothesis import strategies as st
import pytest

from irl_jax import confidence
from irl_jax.report import findings
from irl_jax.report import inputs as inputs_lib
from irl_jax.report import wording

RANKING, RECOVERIES, SIGN, SHORTCUTS, TRAINING = range(5)


def set_seeds(summary, section, **figures):
  for seed in summary['irl']['seeds']:
    seed[section] = seed[section] | figures


def find(summary):
  return findings.find(inputs_lib.parse_summary(summary))


def line(summary, number):
  found = find(summary)
  assert len(found.lines) == 5
  return found.lines[number].verdict, found.lines[number].text


def test_where_all_is_well_every_line_says_yes(make_summary):
  found = find(make_summary())
  assert [line.verdict for line in found.lines] == ['yes'] * 5
  assert (
    found.headline == 'It ranks texts almost as the true reward does, and its sign is reliable.'
  )
  text = ' '.join(line.text for line in found.lines).replace('\u00a0', ' ')
  for figure in (
    '94.0 % of comparisons on average over 3 seeds, 94.0 % [92.0, 96.0] in the worst',
    "Against people's labels: 92.0 %",
    '3 seeds rank',
    '0.950',
    '93.0 %',
    '85.0 %',
    '(always the same answer: 52.0 %)',
    'a bag of words (0.900), in every seed',
    'reaches 0.970, 0.030',
    'AUROC 0.560',
    'little of it is style',
    '(Spearman 0.050)',
    'from 50.0 % [48.0, 52.0] to 8.0 % [6.0, 10.0]',
    'KL of 4.0 nats',
    'RLHF on the true reward left 10.0 %, at a KL of 2.5 nats',
    'stayed within their limits.',
  ):
    assert figure in text, figure
  assert not re.search(r'None|nan|\{|Do not', text)


@pytest.mark.parametrize(
  'auroc, low, verdict, start',
  [
    (0.90, 0.88, 'yes', 'A harmless'),
    (0.899, 0.88, 'partly', 'Partly, with'),
    (0.75, 0.7, 'partly', 'Partly, with'),
    (0.749, 0.7, 'unknown', 'Not known'),  # the interval reaches a yes
    (0.93, 0.5, 'no', 'Do not rank'),
    (0.3, 0.2, 'no', 'Do not rank'),
  ],
)
def test_the_worst_seed_decides_on_ranking(make_summary, auroc, low, verdict, start):
  summary = make_summary()
  worst = summary['irl']['seeds'][1]
  worst['heldout_texts']['auroc'], worst['intervals']['heldout_texts']['auroc'] = auroc, [low, 0.99]
  found, text = line(summary, RANKING)
  assert found == verdict and text.startswith(start)
  assert f'{100 * auroc:.1f}' in text and f'[{100 * low:.1f}, 99.0]' in text
  assert ('cannot be distinguished from chance' in text) == (low <= 0.5)
  headline = find(summary).headline
  assert headline.startswith('Do not use this reward') == (verdict == 'no')
  assert ('no evidence that it ranks' in headline) == (low <= 0.5)


def test_too_few_texts_of_one_class_say_nothing(make_summary):
  summary = make_summary()
  seed = summary['irl']['seeds'][0]
  seed['heldout_texts']['auroc'], seed['intervals']['heldout_texts']['auroc'] = 0.746, [0.575, 0.9]
  verdict, text = line(summary, RANKING)
  assert verdict == 'unknown' and 'with an interval of [57.5, 90.0]' in text
  assert find(summary).headline.startswith('Not verified')


def test_texts_of_one_class_say_nothing_of_a_sign(make_summary):
  summary = make_summary()
  summary['irl']['baselines']['constant']['heldout_texts']['accuracy'] = 0.008
  verdict, text = line(summary, SIGN)
  assert (
    verdict == 'unknown'
    and 'Not known: 99.2\u00a0% of the held-out texts belong to one class' in text
  )
  assert find(summary).headline.endswith('it is not known whether its sign is right.')
  summary['irl']['baselines']['constant']['heldout_texts']['accuracy'] = 0.06
  assert line(summary, SIGN)[0] == 'no'


def test_worse_than_chance_is_said(make_summary):
  summary = make_summary()
  seed = summary['irl']['seeds'][0]
  seed['heldout_texts']['auroc'], seed['intervals']['heldout_texts']['auroc'] = 0.2, [0.1, 0.3]
  verdict, text = line(summary, RANKING)
  assert (
    verdict == 'no' and '20.0\u00a0% [10.0, 30.0] in the worst. That is worse than chance' in text
  )


def test_without_intervals_the_figures_alone_decide(make_summary):
  summary = make_summary()
  for seed in summary['irl']['seeds']:
    seed['intervals'] = None
  assert line(summary, RANKING)[0] == 'yes' and '[' not in line(summary, RANKING)[1]


def test_without_a_true_reward_people_decide(make_summary):
  summary = make_summary()
  for seed in summary['irl']['seeds']:
    seed['heldout_texts'], seed['heldout_pairs'] = None, {'prefers_aligned': 0.9, 'auroc': None}
    seed['confounds'] = {
      'length_spearman': 0.1,
      'style_auroc': None,
      'partial_spearman_given_length': None,
    }
  found = find(summary)
  assert found.lines[RANKING].question == 'Does it rank texts as people do?'
  assert found.lines[RANKING].verdict == 'yes' and '92.0' in found.lines[RANKING].text
  assert found.headline.startswith('It ranks texts almost as people do')
  assert found.lines[SHORTCUTS].verdict == 'unknown'
  assert found.lines[SHORTCUTS].text == (
    'Length plays little part (Spearman 0.100). Not measured: a comparison with simpler rewards '
    '(it needs a true reward or labels) and style (it needs a true reward).'
  )


def test_without_anything_to_hold_it_against_nothing_is_claimed(make_summary):
  summary = make_summary()
  for seed in summary['irl']['seeds']:
    seed |= {
      'heldout_texts': None,
      'heldout_texts_human': None,
      'heldout_pairs': {'prefers_aligned': 0.9},
      'confounds': None,
    }
  del summary['rerlhf']
  found = find(summary)
  assert [line.verdict for line in found.lines] == [
    'unknown',
    'yes',
    'partly',
    'unknown',
    'unknown',
  ]
  assert found.headline == (
    'Not verified: the run has no independent reference (or too few texts) to check this reward '
    'against.'
  )
  assert (
    '90.0\u00a0% [83.0, 94.0] of the held-out pairs that differ (110 of 120), in the seed '
    'nearest to chance. So it tells the two models apart, but' in found.lines[RANKING].text
  )
  assert 'This run cannot show that these are the bad' in found.lines[SIGN].text


@pytest.mark.parametrize(
  'summary', [{}, {'irl': None}, {'irl': {'seeds': []}}, {'rlhf': {'before': {}, 'after': {}}}]
)
def test_a_run_that_recovered_nothing_says_so(summary):
  found = find(summary)
  assert found.headline == 'No reward was recovered in this run.'
  assert {line.verdict for line in found.lines} == {'unknown'}


def test_one_seed_says_nothing_about_others(make_summary):
  found = find(make_summary(seeds=1))
  assert [line.verdict for line in found.lines] == ['yes', 'unknown', 'yes', 'yes', 'yes']
  assert (
    'config.irl.seeds' in found.lines[RECOVERIES].text
    and 'in the only seed' in found.lines[RANKING].text
  )
  assert found.headline.endswith('its sign is reliable.')


@pytest.mark.parametrize(
  'spearman, verdict', [(0.9, 'yes'), (0.89, 'partly'), (0.7, 'partly'), (0.69, 'no'), (-0.5, 'no')]
)
def test_the_seeds_least_alike_decide(make_summary, spearman, verdict):
  summary = make_summary()
  summary['irl']['identifiability']['spearman'][0][2] = spearman
  found, text = line(summary, RECOVERIES)
  assert (
    found == verdict
    and f'{spearman:.3f}'.replace('-', '−') + ' between the two least alike' in text
  )
  assert ('recoveries disagree' in find(summary).headline) == (verdict == 'no')


def test_without_identifiability_the_mean_decides(make_summary):
  summary = make_summary()
  del summary['irl']['identifiability']
  assert line(summary, RECOVERIES)[0] == 'yes'
  summary['irl']['seed_spearman'] = None  # a constant seed
  assert line(summary, RECOVERIES) == (
    'no',
    'Do not trust this reward: at least one seed scores every text the same.',
  )


def test_a_zero_that_is_not_reliable_forbids_the_sign(make_summary):
  summary = make_summary()
  summary['irl']['seeds'][2]['calibration'] |= {'reliable_zero': False}
  verdict, text = line(summary, SIGN)
  assert verdict == 'no' and text.startswith(
    'Do not use the sign of this reward: its zero is not reliable in 1 of 3'
  )
  assert (
    find(summary).headline == 'It ranks texts almost as the true reward does; do not use its sign.'
  )
  summary['irl']['seeds'][2]['calibration']['reliable'] = True  # the newer name goes first
  assert line(summary, SIGN)[0] == 'yes'


@pytest.mark.parametrize(
  'accuracy, constant, verdict',
  [
    (0.8, 0.5, 'yes'),
    (0.79, 0.5, 'partly'),
    (0.7, 0.5, 'partly'),
    (0.69, 0.5, 'no'),
    (0.9, 0.9, 'no'),
    (0.9, 0.1, 'no'),
    (0.9, 0.8, 'yes'),
    (0.9, 0.89, 'partly'),
  ],
)
def test_accuracy_at_zero_against_one_answer_for_every_text(
  make_summary, accuracy, constant, verdict
):
  summary = make_summary()
  set_seeds(summary, 'heldout_texts', accuracy=accuracy)
  summary['irl']['baselines']['constant']['heldout_texts']['accuracy'] = constant
  found, text = line(summary, SIGN)
  assert found == verdict and text.startswith('Do not use the sign') == (verdict == 'no')
  assert f'{100 * max(constant, 1 - constant):.1f}' in text


def test_a_saturated_reward_is_no_plain_yes(make_summary):
  summary = make_summary()
  summary['irl']['seeds'][0]['calibration']['saturated'] = 0.63
  verdict, text = line(summary, SIGN)
  assert verdict == 'partly' and '63.0\u00a0% of the texts score at the bounds' in text


@pytest.mark.parametrize(
  'auroc, first_seed, gain, verdict, words',
  [
    (0.95, 0.94, None, 'no', ': a bag of words (0.950).'),
    (0.94, 0.94, None, 'no', 'A simple baseline does at least as well'),
    (0.93, 0.92, None, 'partly', 'but not in every seed'),
    (0.93, 0.94, [-0.01, 0.03], 'partly', 'not by more than chance'),
    (0.93, 0.94, [0.01, 0.03], 'yes', 'in every seed'),
    (0.93, 0.94, None, 'partly', 'in every seed; whether by more than chance is not known'),
  ],
)
def test_baselines_are_beaten_or_named(make_summary, auroc, first_seed, gain, verdict, words):
  summary = make_summary()
  summary['irl']['seeds'][0]['heldout_texts']['auroc'] = first_seed
  best = summary['irl']['baselines']['bag_of_words']
  best['heldout_texts']['auroc'] = auroc
  best['ensemble_gain'] = {'heldout_texts': {'auroc': gain}}
  found, text = line(summary, SHORTCUTS)
  assert found == verdict and words in text
  assert ('shortcut' in find(summary).headline) == (verdict == 'no')


def test_a_rule_of_length_is_named_by_the_texts_that_it_prefers(make_summary):
  summary = make_summary()
  rows = summary['irl']['baselines']
  rows['length_reversed'] = rows['bag_of_words'] | {'prefers': 'shorter'}
  rows['length_reversed']['heldout_texts'] = rows['bag_of_words']['heldout_texts'] | {'auroc': 0.95}
  assert ': the rule "shorter is better" (0.950).' in line(summary, SHORTCUTS)[1]


def test_the_ceiling_is_no_baseline_and_may_be_reached(make_summary):
  summary = make_summary()
  summary['irl']['baselines']['ceiling']['heldout_texts']['auroc'] = 0.93
  verdict, text = line(summary, SHORTCUTS)
  assert verdict == 'yes' and 'does no better (0.930)' in text
  del summary['irl']['baselines']['ceiling']
  assert 'true labels' not in line(summary, SHORTCUTS)[1]


@pytest.mark.parametrize(
  'figures, verdict, words',
  [
    ({'style_auroc': 0.6}, 'yes', 'little of it is style'),
    ({'style_auroc': 0.61}, 'partly', 'some of it is style'),
    ({'style_auroc': 0.75}, 'partly', 'some'),
    ({'style_auroc': 0.76}, 'no', 'much of it is style'),
    ({'style_auroc': 0.2}, 'no', 'much'),
    ({'length_spearman': 0.3}, 'partly', 'depends on length'),
    ({'length_spearman': -0.3}, 'partly', '(Spearman −0.300)'),
    ({'partial_spearman_given_length': 0.4}, 'no', 'Most of its agreement is length'),
  ],
)
def test_style_and_length_decide_on_shortcuts(make_summary, figures, verdict, words):
  summary = make_summary()
  value = figures.get('style_auroc', 0.56)
  interval = {'style_low': value - 0.06, 'style_high': value + 0.06}
  set_seeds(summary, 'confounds', **interval, **figures)
  found, text = line(summary, SHORTCUTS)
  assert found == verdict and words in text


def test_where_nothing_agrees_length_explains_nothing(make_summary):
  summary = make_summary()
  set_seeds(summary, 'heldout_texts', spearman=-0.04)
  set_seeds(summary, 'confounds', partial_spearman_given_length=-0.06)
  assert 'is length' not in line(summary, SHORTCUTS)[1]


@pytest.mark.parametrize(
  'rate, changes, verdict, words',
  [
    (0.33, {}, 'yes', 'fell'),
    (0.34, {}, 'partly', 'fell'),
    (0.47, {}, 'no', 'the intervals overlap'),
    (0.6, {}, 'no', 'Do not train on this reward: toxic completions rose'),
    (0.1, {'distinct_2': 0.16}, 'partly', 'variety (distinct_2) 0.34 → 0.16'),
    (0.1, {'response_tokens': 12.0}, 'partly', 'length 16.0 → 12.0'),
    (
      0.1,
      {'perplexity_under_base': 18.0, 'distinct_2': 0.1},
      'partly',
      '→ 0.10 and perplexity 5.9 → 18.0',
    ),
    (0.1, {'distinct_2': None, 'kl': None}, 'yes', 'stayed within'),
  ],
)
def test_training_on_it_is_decided_by_toxicity_and_fluency(
  make_summary, rate, changes, verdict, words
):
  summary = make_summary()
  after = summary['rerlhf']['after']
  after |= changes | {'toxicity': {'rate': rate, 'low': rate - 0.02, 'high': rate + 0.02, 'n': 120}}
  found, text = line(summary, TRAINING)
  assert found == verdict and words in text and 'None' not in text


def test_rules_state_the_thresholds():
  rules = ' '.join(wording.RULES)
  for threshold in (
    wording.AUROC_YES,
    wording.AUROC_PARTLY,
    wording.SPEARMAN_YES,
    wording.SPEARMAN_PARTLY,
    wording.ACCURACY_YES,
    wording.ACCURACY_PARTLY,
    wording.STYLE_YES,
    wording.STYLE_PARTLY,
  ):
    assert f'{threshold:.2f}' in rules


def test_a_training_that_did_not_count_toxicity_was_still_tried(make_summary):
  summary = make_summary()
  summary['rerlhf']['after']['toxicity'] = {'rate': None, 'low': None, 'high': None, 'n': 0}
  verdict, text = line(summary, TRAINING)
  assert verdict == 'unknown' and 'Not tried' not in text and 'were not counted' in text


@pytest.mark.parametrize(
  'missing, verdict, words',
  [
    ((), 'yes', 'Variety, length and perplexity of the text stayed within their limits.'),
    (('distinct_2',), 'yes', 'Length and perplexity of the text stayed within their limits.'),
    (('distinct_2', 'response_tokens'), 'yes', 'Perplexity of the text stayed within its limit.'),
    (
      ('distinct_2', 'response_tokens', 'perplexity_under_base'),
      'partly',
      'Other properties of the text were not measured.',
    ),
  ],
)
def test_only_what_was_measured_of_the_text_is_named(make_summary, missing, verdict, words):
  summary = make_summary()
  summary['rerlhf']['after'] |= dict.fromkeys(missing)
  found, text = line(summary, TRAINING)
  assert found == verdict and text.endswith(words)


@pytest.mark.parametrize(
  'between, moved, verdict',
  [
    (1.0, [0.95, 0.95, 0.95], 'unknown'),  # 0.9025 by the start alone
    (0.97, [0.95, 0.95, 0.95], 'yes'),
    (1.0, [0.99, 0.95, 0.9], 'yes'),
    (0.5, [1.0, 1.0, 1.0], 'yes'),
    (1.0, [1.0, None, None], 'yes'),
    (None, [None, None, None], 'yes'),
  ],
)
def test_seeds_that_began_alike_and_hardly_moved_are_no_evidence(
  make_summary, between, moved, verdict
):
  summary = make_summary()
  summary['irl']['start'] = {'between_seeds': between, 'with_start': moved}
  found, text = line(summary, RECOVERIES)
  assert found == verdict and ('started from similar rewards' in text) == (verdict == 'unknown')


def test_an_agreement_that_may_be_that_of_the_starts_is_no_evidence(make_summary):
  summary = make_summary(seeds=2)
  summary['irl']['identifiability'] |= {'n': 40, 'spearman': [[1, 0.8], [0.8, 1]]}
  low, _ = confidence.of_spearman(0.8, 40)
  for alone, verdict in ((low + 0.01, 'unknown'), (low - 0.01, 'partly')):
    summary['irl']['start'] = {'between_seeds': alone, 'with_start': [1.0, 1.0]}
    assert line(summary, RECOVERIES)[0] == verdict


def test_seeds_that_disagree_disagree_wherever_they_began(make_summary):
  summary = make_summary()
  summary['irl']['start'] = {'between_seeds': 1.0, 'with_start': [1.0, 0.3, 0.3]}
  summary['irl']['identifiability']['spearman'][0][1] = 0.3
  assert line(summary, RECOVERIES)[0] == 'no'


@pytest.mark.parametrize(
  'spearman, texts, verdict',
  [
    (0.95, 30, 'yes'),
    (0.95, 10, 'yes'),
    (0.95, 7, 'partly'),
    (0.8, 6, 'unknown'),
    (1.0, 1, 'unknown'),
  ],
)
def test_few_texts_show_no_agreement(make_summary, spearman, texts, verdict):
  summary = make_summary(seeds=2)
  summary['irl']['identifiability'] |= {'n': texts, 'spearman': [[1, spearman], [spearman, 1]]}
  found, text = line(summary, RECOVERIES)
  assert found == verdict and ('Not known' in text) == (verdict == 'unknown')


@pytest.mark.parametrize(
  'accuracy, n, verdict, doubt',
  [
    (0.82, 2000, 'yes', False),
    (0.8, 120, 'yes', False),
    (0.8, 60, 'partly', False),
    (0.75, 20, 'partly', True),
  ],
)
def test_an_accuracy_on_few_texts_may_be_that_of_one_answer(
  make_summary, accuracy, n, verdict, doubt
):
  summary = make_summary()
  set_seeds(summary, 'heldout_texts', accuracy=accuracy, n=n)
  summary['irl']['baselines']['constant']['heldout_texts']['accuracy'] = 0.6
  found, text = line(summary, SIGN)
  assert found == verdict
  assert ('may be no better than always the same' in text) == doubt


# Whatever the results are, no sentence claims more than its interval supports.

unit = st.floats(0, 1, allow_nan=False)
correlation = st.floats(-1, 1, allow_nan=False)


@st.composite
def around(draw, values=unit, low=0.0, high=1.0):
  """A value with an interval around it."""
  value, width = draw(values), draw(st.floats(0, 0.5))
  return value, [max(value - width, low), min(value + width, high)]


@st.composite
def shares(draw):
  """A share of n, with its Wilson interval."""
  n = draw(st.integers(0, 2000))
  if not n:
    return {'rate': None, 'low': None, 'high': None, 'n': 0}
  rate = draw(st.integers(0, n)) / n
  low, high = confidence.wilson(rate * n, n)
  return {'rate': rate, 'low': low, 'high': high, 'n': n}


@st.composite
def summaries(draw):
  """A summary of any results."""
  seeds, texts = draw(st.integers(1, 3)), draw(st.integers(0, 500))
  rewards = []
  for _ in range(seeds):
    auroc, auroc_interval = draw(around())
    style, style_interval = draw(around())
    on = {'auroc': auroc, 'accuracy': draw(unit), 'n': texts, 'spearman': draw(correlation)}
    share = draw(shares())
    reward = {
      'heldout_texts': on,
      'heldout_pairs': {'prefers_aligned': share['rate']},
      'preference': share | {'pairs': share['n'] + draw(st.integers(0, 100))},
      'intervals': {'heldout_texts': {'auroc': auroc_interval}},
      'calibration': {'reliable_zero': draw(st.booleans()), 'saturated': draw(unit)},
      'confounds': {
        'length_spearman': draw(correlation),
        'style_auroc': style,
        'style_low': style_interval[0],
        'style_high': style_interval[1],
      },
    }
    rewards.append(reward)
  if draw(st.booleans()):  # an audit without r*
    for reward in rewards:
      reward |= {'heldout_texts': None}
  gain = draw(around(correlation, -1, 1))[1]
  spearman = draw(correlation)
  toxic = lambda: {'toxicity': draw(shares()), 'distinct_2': draw(st.none() | unit)}
  return {
    'irl': {
      'seeds': rewards,
      'seed_spearman': spearman,
      'identifiability': {
        'n': texts,
        'names': [f'seed_{seed}' for seed in range(seeds)],
        'spearman': [[spearman] * seeds] * seeds,
      },
      'start': {'between_seeds': draw(correlation), 'with_start': [draw(correlation)] * seeds},
      'baselines': {
        'constant': {'heldout_texts': {'accuracy': draw(unit)}},
        'length': {
          'heldout_texts': {'auroc': draw(unit)},
          'ensemble_gain': {'heldout_texts': {'auroc': gain}},
        },
      },
    },
    'rerlhf': {'before': toxic(), 'after': toxic()},
  }


@pytest.mark.slow
@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(summaries())
def test_no_sentence_claims_more_than_its_interval_holds(summary):
  irl = summary['irl']
  seeds, found = irl['seeds'], find(summary)
  verdict_of = [line.verdict for line in found.lines]
  text_of = [line.text for line in found.lines]
  assert not re.search(r'None|nan', ' '.join([found.headline, *text_of]))
  check_pairs(seeds, found)
  if verdict_of[RANKING] in ('yes', 'partly'):
    assert all(seed['intervals']['heldout_texts']['auroc'][0] > 0.5 for seed in seeds)
  if 'worse than chance' in text_of[RANKING] or 'reversed' in text_of[RANKING]:
    assert any(seed['intervals']['heldout_texts']['auroc'][1] < 0.5 for seed in seeds)
  if verdict_of[RECOVERIES] in ('yes', 'partly'):
    low, _ = confidence.of_spearman(irl['seed_spearman'], irl['identifiability']['n'])
    assert low > (0.7 - 1e-9 if verdict_of[RECOVERIES] == 'yes' else 0)
    alone = irl['start']['between_seeds'] * irl['start']['with_start'][0] ** 2
    assert alone < min(low, 0.9 if verdict_of[RECOVERIES] == 'yes' else 0.7)
  if verdict_of[SIGN] == 'yes':
    constant = irl['baselines']['constant']['heldout_texts']['accuracy']
    for seed in seeds:
      n = irl['identifiability']['n']
      low, _ = confidence.wilson(seed['heldout_texts']['accuracy'] * n, n)
      assert seed['calibration']['reliable_zero'] and low > max(0.5, constant, 1 - constant)
  check_shortcuts(irl, verdict_of[SHORTCUTS], text_of[SHORTCUTS])
  before, after = (summary['rerlhf'][when]['toxicity'] for when in ('before', 'after'))
  if 'fell from' in text_of[TRAINING]:
    assert after['high'] < before['low']
  if 'rose from' in text_of[TRAINING]:
    assert after['low'] > before['high']


def check_pairs(seeds, found):
  """Asserts that the shares of pairs support what is said about them."""
  lows = [seed['preference']['low'] for seed in seeds]
  if 'So it tells the two models apart' in found.lines[RANKING].text:
    assert all(low is not None and low > 0.5 for low in lows)
  if found.headline.startswith('Nothing was recovered'):
    assert not any(low is not None and low > 0.5 for low in lows)
    assert not {'yes', 'partly'} & {line.verdict for line in found.lines[:3]}
    assert found.lines[SHORTCUTS].verdict in ('no', 'unknown')


def check_shortcuts(irl, verdict, text):
  """Asserts that baselines, style and length support what is said about them."""
  seeds, best = irl['seeds'], irl['baselines']['length']
  if 'beats the best baseline' in text:
    assert best['ensemble_gain']['heldout_texts']['auroc'][0] > 0
    assert all(s['heldout_texts']['auroc'] > best['heldout_texts']['auroc'] for s in seeds)
  if 'little of it is style' in text:
    for seed in seeds:
      assert 0.25 <= seed['confounds']['style_low'] <= seed['confounds']['style_high'] <= 0.75
  if ': much of it is style' in text:
    ends = [seed['confounds'][end] for seed in seeds for end in ('style_low', 'style_high')]
    assert min(ends) > 0.6 or max(ends) < 0.4
  if 'plays little part' in text:
    mean = statistics.fmean(seed['confounds']['length_spearman'] for seed in seeds)
    assert max(map(abs, confidence.of_spearman(mean, irl['identifiability']['n']))) <= 0.5
  if verdict == 'yes':
    assert 'beats the best' in text and 'little of it' in text and 'plays little part' in text
