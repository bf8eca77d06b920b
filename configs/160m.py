"""The paper's experiment with Pythia-160M, a size that the paper does not report.

  python launch/train.py --config=configs/160m.py

Models and data come from the hub (see 70m.py and 410m.py). Use an accelerator. There are no
results, neither the paper's nor ours.

PPO's hyper-parameters are those of the paper's released code for this size. Weight decay is the
paper's for both other sizes. We interpolated between the paper's 70M and 410M: the KL coefficient
(0.035 and 0.1) and the learning rate of IRL (1e-4 and 1e-5). The released code counts updates:
its 10,000 are about 278 rollouts of 48 prompts, each rollout split into minibatches of 8 and
used for 6 epochs.
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
    name='160m',
    stages=('data', 'rlhf', 'demos', 'irl', 'evaluate', 'rerlhf', 'report'),
    models=c.Models(
      base='EleutherAI/pythia-160m',
      sft='lomahony/eleuther-pythia160m-hh-sft',
      classifier='s-nlp/roberta_toxicity_classifier@048c25bb1e199b98802784f96325f4840f22145d',
    ),
    # Prompt and response together have 512 tokens, all that the classifier reads.
    data=c.Data(source='jigsaw-long-2000', max_prompt_tokens=384),
    sampling=c.Sampling(max_new_tokens=128, top_k=30, batch_size=64),
    ppo=c.PPO(
      learning_rate=1e-6,
      steps=278,
      rollouts_per_step=48,
      minibatch_size=8,
      epochs=6,
      kl_coefficient=0.06,
      trained_blocks=4,
      reward='probability',
      score_text='full',
      subtract_original=True,
      checkpoint_every=25,
      samples_every=25,
    ),
    irl=c.IRL(
      objective='asymmetric',
      learning_rate=3e-5,
      schedule='constant',
      weight_decay=0.0,
      epochs=10,
      batch_size=32,
      seeds=5,
      contrast='base',
      max_prompts=500,
    ),
    evaluation=c.Evaluation(batch_size=32),
  )
