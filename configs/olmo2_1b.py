"""An audit of preference training: OLMo 2 1B after DPO, against the SFT model that it came from.

  python launch/train.py --config=configs/olmo2_1b.py

Not run by us. Every stage of OLMo 2 is open (OLMo et al. 2025, arXiv:2501.00656). The prompts are
those of its own preference data; they and both models come from the hub. Use an accelerator
(--dry_run predicts the memory).

DPO optimises the log-ratio of the two models, so the baseline `dpo_implicit` is the reward that it
is trained with, up to a constant for each prompt. R̂ is a reward that can be read and used. For the
stage after it, reinforcement learning on checked answers:
--config.models.base=allenai/OLMo-2-0425-1B-DPO --config.models.aligned=allenai/OLMo-2-0425-1B-RLVR1
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
    name='olmo2_1b',
    stages=('data', 'demos', 'irl', 'evaluate', 'report'),
    models=c.Models(base='allenai/OLMo-2-0425-1B-SFT', aligned='allenai/OLMo-2-0425-1B-DPO'),
    data=c.Data(
      source='allenai/olmo-2-0425-1b-preference-mix',
      chat='always',
      max_prompt_tokens=256,
      max_rows=6000,
      bad_rows='skip',  # a conversation that the template refuses
    ),
    sampling=c.Sampling(max_new_tokens=64, batch_size=128),
    irl=c.IRL(
      seeds=5,
      epochs=1,
      learning_rate=1e-4,
      batch_size=32,
      objective='logistic',
      trained_blocks=2,
      prefix_weight=1.0,
      evaluate_every=25,
      max_tokens=320,
    ),
  )
