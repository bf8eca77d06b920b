"""Two checkpoints that exist already, an aligned model and the one that it came from: what was it rewarded for?

  python launch/train.py --config=configs/audit.py --config.models.base=BASE --config.models.aligned=ALIGNED

Each is a folder, a hub id or `id@revision`, both GPT-NeoX (Pythia) with one vocabulary. Prompts are sampled from the
base model. With texts of your own:

  --config.data.source=comments.jsonl --config.data.text_field=text [--config.data.label_field=toxic]

With a classifier to hold the reward against: --config.models.classifier=CLASSIFIER. Without it, and without labels,
there is no accuracy or AUROC: what is reported is how far the seeds agree, how well they tell the two models apart on
held-out prompts, how much of that is length or style, and which words they like.

For a model of hundreds of millions of parameters use an accelerator. On 2 CPU cores and with models of 14 million, an
audit of 1,000 prompts (--config.data.sampled_prompts=1000) takes minutes.
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
    name='audit',
    stages=('data', 'demos', 'irl', 'evaluate', 'report'),
    data=c.Data(source='prompts', sampled_prompts=5000, prompt_fraction=0.25, max_prompt_tokens=32),
    # No least length: when to stop is part of what a model was rewarded for; the baseline `length` shows how much.
    sampling=c.Sampling(max_new_tokens=32, batch_size=256),
    irl=c.IRL(
      seeds=5,
      epochs=1,
      learning_rate=1e-4,
      batch_size=32,
      objective='logistic',
      prefix_weight=1.0,
      evaluate_every=25,
      max_tokens=128,
    ),
  )
