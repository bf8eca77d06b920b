"""An audit with a known answer: a PPO policy, the model that it came from, and its own reward.

  python launch/train.py --config=configs/tldr_1b.py

Not run by us. The three models are Pythia-1B, trained to summarise Reddit posts (Huang et al. 2024,
arXiv:2403.17031); they and the posts come from the hub. Use an accelerator with 40 GB or more
(--dry_run predicts the memory).

The reward model is r* here: does R̂, which sees only the two policies' summaries, rank held-out
summaries as it does? It is a score without a toxic class, so the report speaks of order and wins.
It was trained to read a summary with its EOS; here it reads the last word, because EOS is no part
of a text.
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
    name='tldr_1b',
    stages=('data', 'demos', 'irl', 'evaluate', 'report'),
    models=c.Models(
      base='cleanrl/EleutherAI_pythia-1b-deduped__sft__tldr',
      aligned='cleanrl/EleutherAI_pythia-1b-deduped__ppo__tldr',
      classifier='cleanrl/EleutherAI_pythia-1b-deduped__reward__tldr',
    ),
    data=c.Data(
      source='trl-lib/tldr',
      prompt_field='prompt',
      text_field='completion',
      chat='never',
      max_prompt_tokens=512,
      max_rows=6000,
    ),
    # The length of the summaries that the policy was trained on
    sampling=c.Sampling(max_new_tokens=53, batch_size=64),
    irl=c.IRL(
      seeds=5,
      epochs=1,
      learning_rate=1e-4,
      batch_size=32,
      objective='logistic',
      trained_blocks=2,
      prefix_weight=1.0,
      evaluate_every=25,
      max_tokens=576,
    ),
  )
