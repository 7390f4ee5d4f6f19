"The alignment chapter against TRL, in float32 without checkpointing, on the same batches"
import copy, tempfile
from functools import cache
from itertools import islice
from harness import Row, grown


steps, batch_size = 12, 16


@cache
def answered(count):
    "The start, its tokenizer, some sums, and its own answers to them"
    from llm_course.alignment.preference import draw, start, sums
    model, tokenizer = start()
    questions = sums(count, 'train', 21)
    return model, tokenizer, questions, draw(model, tokenizer, [task.prompt for task in questions])


def data():
    "The start, its tokenizer and a few hundred pairs"
    from llm_course.alignment.preference import pairs
    model, tokenizer, *both = answered(240)
    return model, tokenizer, pairs(*both)


def thumbed():
    "The start, its tokenizer and a thumb for each answer"
    from llm_course.alignment.preference import thumbs
    model, tokenizer, *both = answered(80)
    return model, tokenizer, thumbs(*both)


def flags(config, folder, **more):
    "What a CPU needs; releases of TRL differ in the names they know"
    known = dict(output_dir=folder, use_cpu=True, bf16=False, activation_checkpointing=False, gradient_checkpointing=False, report_to='none', save_strategy='no',
                 dataloader_pin_memory=False, disable_tqdm=True, logging_steps=1, per_device_train_batch_size=batch_size, max_steps=steps)
    return config(**{key: value for key, value in known.items() if key in config.__dataclass_fields__} | more)


def silent(trainer):
    "The same trainer, which keeps its figures and does not print them"
    from transformers import PrinterCallback
    trainer.remove_callback(PrinterCallback)
    return trainer


def trainer_of(cls, config, rows, model, tokenizer, lr=3e-5, **more):
    "A trainer of TRL that takes the rows in our order, at our learning rates"
    import logging, torch
    from datasets import Dataset, disable_progress_bars
    from llm_course.alignment.reward import draws
    disable_progress_bars()
    logging.disable(logging.WARNING)
    order = torch.cat(list(islice(draws(len(rows), batch_size, 0), steps))).tolist()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step+1)/max(1, steps/10)))
    ordered = type('Ordered', (cls,), dict(_get_train_sampler=lambda self, *_: order))
    return silent(ordered(model, args=flags(config, tempfile.mkdtemp(), **more), train_dataset=Dataset.from_list(rows), processing_class=tokenizer, optimizers=(optimizer, schedule)))


def asked(tokenizer, prompt): return tokenizer.apply_chat_template([dict(role='user', content=prompt)], tokenize=False, add_generation_prompt=True)


def dpo_step_ours():
    import torch
    from llm_course.alignment.dpo import dpo_loss, reference_logps, side_logps
    from llm_course.alignment.preference import encode_pairs
    from llm_course.alignment.reward import draws
    model, tokenizer, pairs = data()
    policy, sides = copy.deepcopy(model).train(), encode_pairs(tokenizer, pairs)
    reference, batches = reference_logps(model, sides), list(islice(draws(len(pairs), batch_size, 0), steps))
    def step(rows):
        policy.zero_grad()
        loss = dpo_loss(*[side_logps(policy, side, rows) for side in sides], *[known[rows] for known in reference], .1)
        loss.backward()
        return torch.stack([loss.detach(), torch.nn.utils.get_total_norm([p.grad for p in policy.parameters()])])
    return lambda: torch.stack([step(rows) for rows in batches]).flatten().tolist()


def dpo_step_peer():
    import torch
    from trl import DPOConfig, DPOTrainer
    model, tokenizer, pairs = data()
    rows = [dict(row, prompt=asked(tokenizer, row['prompt'])) for row in pairs]
    trainer = trainer_of(DPOTrainer, DPOConfig, rows, copy.deepcopy(model), tokenizer, beta=.1, precompute_ref_log_probs=True, precompute_ref_batch_size=64)
    policy, batches = trainer.model.train(), list(islice(trainer.get_train_dataloader(), steps))
    def step(batch):
        policy.zero_grad()
        loss = trainer.compute_loss(policy, dict(batch))
        loss.backward()
        return torch.stack([loss.detach(), torch.nn.utils.get_total_norm([p.grad for p in policy.parameters()])])
    return lambda: torch.stack([step(batch) for batch in batches]).flatten().tolist()


def dpo_ours():
    from llm_course.alignment.dpo import train_dpo
    model, tokenizer, pairs = data()
    return lambda: [row['loss'] for row in train_dpo(copy.deepcopy(model), tokenizer, pairs, steps)]


def dpo_peer():
    from trl import DPOConfig, DPOTrainer
    model, tokenizer, pairs = data()
    rows = [dict(row, prompt=asked(tokenizer, row['prompt'])) for row in pairs]
    def work():
        trainer = trainer_of(DPOTrainer, DPOConfig, rows, copy.deepcopy(model), tokenizer, beta=.1, precompute_ref_log_probs=True, precompute_ref_batch_size=64)
        trainer.train()
        return [row['loss'] for row in trainer.state.log_history if 'loss' in row]
    return work


def kto_ours():
    from llm_course.alignment.kto import train_kto
    model, tokenizer, rows = thumbed()
    return lambda: [row['loss'] for row in train_kto(copy.deepcopy(model), tokenizer, rows, steps)]


def kto_peer():
    from llm_course.alignment.kto import balance, mismatched
    from trl import KTOConfig, KTOTrainer
    model, tokenizer, rows = thumbed()
    partner = {row['completion']: i for i, row in enumerate(rows)}
    partners = [partner[text] for text in mismatched(rows)]
    rows_asked, (desirable, undesirable) = [dict(row, prompt=asked(tokenizer, row['prompt'])) for row in rows], balance(rows)

    class Partnered(KTOTrainer):
        "Takes our partners instead of the batch's neighbours"
        def _prepare_dataset(self, *args):
            made = super()._prepare_dataset(*args)
            own = made['completion_ids'][:]
            return made.remove_columns('KL_completion_ids').add_column('KL_completion_ids', [own[i] for i in partners])

    def work():
        trainer = trainer_of(Partnered, KTOConfig, rows_asked, copy.deepcopy(model), tokenizer, beta=.1, precompute_ref_log_probs=True, precompute_ref_batch_size=64,
                             desirable_weight=desirable, undesirable_weight=undesirable)
        trainer.train()
        return [row['loss'] for row in trainer.state.log_history if 'loss' in row]
    return work


def orpo_ours():
    from llm_course.alignment.orpo import answer_and_text, orpo_loss
    from llm_course.alignment.preference import encode_pairs
    from llm_course.alignment.reward import tune
    first, tokenizer, pairs = data()
    def work():
        model, sides = copy.deepcopy(first), encode_pairs(tokenizer, pairs)
        def loss(rows):
            (chosen, nll), (rejected, _) = (answer_and_text(model, side, rows) for side in sides)
            return orpo_loss(chosen, rejected, nll, .1), {}
        return [row['loss'] for row in tune(model, loss, len(pairs), steps, lr=3e-5)]
    return work


def orpo_peer():
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer
    model, tokenizer, pairs = data()
    rows = [dict(row, prompt=asked(tokenizer, row['prompt'])) for row in pairs]
    def work():
        trainer = trainer_of(ORPOTrainer, ORPOConfig, rows, copy.deepcopy(model), tokenizer, beta=.1, remove_unused_columns=False)
        trainer.train()
        return [float(row['loss']) for row in trainer.state.log_history if 'loss' in row]
    return work


def same_losses(ours, peer):
    gap = max(abs(float(a)-float(b)) for a, b in zip(ours, peer, strict=True))
    assert gap < 1e-5, f'the losses differ by {gap:.1g}'
    return f'{len(ours)} losses within {gap:.0e}'


rows = [Row('dpo-step', 'trl DPOTrainer', dpo_step_ours, dpo_step_peer, same_losses, ratio=1.),
        Row('dpo-run', 'trl DPOTrainer', dpo_ours, dpo_peer, same_losses, ratio=1/1.2),
        Row('dpo-memory', 'trl DPOTrainer', dpo_ours, dpo_peer, same_losses, ratio=1., cost=grown),
        Row('kto-run', 'trl KTOTrainer', kto_ours, kto_peer, same_losses, ratio=1/1.2),
        Row('kto-memory', 'trl KTOTrainer', kto_ours, kto_peer, same_losses, ratio=1., cost=grown),
        Row('orpo-run', 'trl ORPOTrainer', orpo_ours, orpo_peer, same_losses, ratio=1.),
        Row('orpo-memory', 'trl ORPOTrainer', orpo_ours, orpo_peer, same_losses, ratio=1., cost=grown)]
