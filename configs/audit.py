"""An audit of two existing checkpoints: what was the aligned model rewarded for?

  python launch/train.py --config=configs/audit.py --config.models.base=B --config.models.aligned=A

Each model is a folder, a hub id, `id@revision` or a LoRA adapter, of a family that docs/usage.md
lists. Both must have the same vocabulary. Prompts are sampled from the base model. With texts of
your own, and their labels if there are any:

  --config.data.source=comments.jsonl --config.data.text_field=text --config.data.label_field=toxic

With a classifier to compare the reward with: --config.models.classifier=CLASSIFIER. Without it, and
without labels, there is no accuracy or AUROC. The report then says how far the seeds agree, how
well they tell the two models apart on held-out prompts, how much of that is length or style, and
which words they prefer.

For models of hundreds of millions of parameters use an accelerator. On 2 CPU cores, an audit of
models of 14 million with 1,000 prompts (--config.data.sampled_prompts=1000) takes minutes.

From Python the same audit is `irl_jax.recover(B, A)`.
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
    name='audit',
    stages=('data', 'demos', 'irl', 'evaluate', 'report'),
    data=c.Data(source='prompts', sampled_prompts=5000, prompt_fraction=0.25, max_prompt_tokens=32),
    # No minimum length: when to stop is part of what a model was rewarded for, and the baseline
    # `length` shows how much.
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
