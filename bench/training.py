"The training loop against Hugging Face's `Trainer`: same weights at the start, same rows in the same order, float32"
import logging, math, tempfile
import torch
from harness import Row

steps, size, length, lr = 60, 8, 128, 1e-3


def model():
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = dict(vocab_size=2048, hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2)
    return LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=length, tie_word_embeddings=True, use_cache=False))


def data():
    "More rows than one run reads"
    ids = torch.randint(2048, (steps*size+32, length), generator=torch.Generator().manual_seed(1)).tolist()
    return [dict(input_ids=row, labels=row) for row in ids]


def ours():
    from llm_course.pretraining.train import Run, train
    mine, rows = model(), data()
    def work():
        history = train(mine, rows, steps, lr=lr, batch_size=size, run=Run(precision='float32', progress=False))
        return [step['loss'] for step in history], mine.state_dict()
    return work


def peer():
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import Trainer, TrainingArguments
    from llm_course.pretraining import train as course
    theirs, rows, run = model(), data(), course.Run(precision='float32')
    order = course.Trainer(theirs, rows, steps, lr, size, run)
    optimizer = course.make_optimizer(theirs, lr, run)
    schedule = LambdaLR(optimizer, lambda step: course.learning_rate(step, steps, lr, run)/lr)
    logging.getLogger('bitsandbytes').setLevel(logging.ERROR)
    quiet = dict(report_to='none', save_strategy='no', disable_tqdm=True, logging_steps=1, logging_strategy='steps')
    arguments = TrainingArguments(tempfile.gettempdir(), max_steps=steps, per_device_train_batch_size=size, max_grad_norm=run.clip, use_cpu=True, bf16=False,
                                  dataloader_pin_memory=False, train_sampling_strategy='sequential', **quiet)
    trainer = Trainer(theirs, arguments, train_dataset=[rows[order.row_at(i)] for i in range(steps*size)], data_collator=collate, optimizers=(optimizer, schedule))
    trainer.log = lambda logs, *args, **kwargs: trainer.state.log_history.append(logs)
    def work():
        trainer.train()
        return [entry['loss'] for entry in trainer.state.log_history if 'loss' in entry], theirs.state_dict()
    return work


def collate(rows): return {key: torch.tensor([row[key] for row in rows]) for key in ('input_ids', 'labels')}


def same(ours, peer):
    "The largest difference of a loss and of a weight"
    (losses, weights), (their_losses, their_weights) = ours, peer
    assert len(losses) == len(their_losses) == steps
    loss = max(map(lambda a, b: abs(a-b), losses, their_losses))
    weight = max((weights[name]-their_weights[name]).abs().max().item() for name in weights)
    assert loss < 1e-4 and weight < 1e-4 and math.isfinite(loss), f'the runs differ: losses by {loss:.1g}, weights by {weight:.1g}'
    return f'losses within {loss:.0e}, weights within {weight:.0e}'


rows = [Row('training', 'transformers.Trainer', ours, peer, same, ratio=1.03)]
