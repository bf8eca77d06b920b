"""An audit of two chat models: what was the aligned one rewarded for in its answers?

  python launch/train.py --config=configs/audit_chat.py --config.models.base=B \
      --config.models.aligned=A --config.data.source=prompts.jsonl

Each model is a folder, a hub id, `id@revision` or a LoRA adapter. The prompts are strings or
conversations (docs/usage.md names the forms). The aligned model's chat template renders them for
both models, so the base model must know the template's special tokens: take the model that RLHF or
DPO started from, not the one before instruction tuning.

Only the top blocks are trained, and the states below them are computed once. With
--config.irl.trained_blocks=0 only the head is trained, which takes the least memory.
`--dry_run` predicts it. We have not run this config on models with billions of parameters.
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
    name='audit_chat',
    stages=('data', 'demos', 'irl', 'evaluate', 'report'),
    data=c.Data(source='prompts.jsonl', chat='always', max_prompt_tokens=256, max_rows=6000),
    sampling=c.Sampling(max_new_tokens=64, batch_size=256),
    irl=c.IRL(
      seeds=5,
      epochs=1,
      learning_rate=1e-4,
      batch_size=32,
      objective='logistic',
      trained_blocks=2,
      prefix_weight=1.0,
      evaluate_every=25,
      max_tokens=384,
    ),
  )
