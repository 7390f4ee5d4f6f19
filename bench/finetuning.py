"""The fine-tuning chapter against TRL and peft, in float32 without checkpointing

`sft` and `SFTTrainer` go once through the same conversations, so the ratio of their seconds is that of useful tokens.
"""
import copy, logging, tempfile
from functools import cache, partial
from pathlib import Path
import torch
from harness import Row, grown

count, size, length, lr = 600, 2, 256, 1e-3
quiet = dict(use_cpu=True, bf16=False, activation_checkpointing=False, report_to='none', save_strategy='no', dataloader_pin_memory=False, disable_tqdm=True, logging_steps=1)


@cache
def ready():
    "The tiny base, its tokenizer and conversations of every family"
    from llm_course.core import tiny
    from llm_course.finetuning.full import task_rows
    from llm_course.world import tasks
    torch.set_num_threads(1)
    return *tiny('base'), task_rows(tasks(count, seed=1))


def sft_ours():
    from llm_course.finetuning.full import sft
    from llm_course.pretraining.train import Run
    base, tokenizer, rows = ready()
    model, run = copy.deepcopy(base), Run(precision='float32', progress=False)
    def work():
        sft(model, tokenizer, rows, lr=lr, batch_size=size, length=length, run=run)
        return model
    return work


def sft_peer(packing):
    "Padded with the batch of eight that is its default, or packed as ours; preparing the rows is timed on both sides"
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer
    logging.getLogger('bitsandbytes').setLevel(logging.ERROR)
    base, tokenizer, rows = ready()
    model, data = copy.deepcopy(base), Dataset.from_list(rows)
    more = dict(packing=True, max_length=length, per_device_train_batch_size=size) if packing else dict(max_length=512)
    args = SFTConfig(tempfile.mkdtemp(), **quiet, **more, num_train_epochs=1, learning_rate=lr, assistant_only_loss=True)
    def work():
        trainer = SFTTrainer(model, args=args, train_dataset=data, processing_class=tokenizer)
        trainer.log = lambda *args, **kwargs: None
        trainer.train()
        return model
    return work


@cache
def fresh():
    "Conversations that neither has read"
    from llm_course.finetuning.full import encode_rows, task_rows
    from llm_course.world import tasks
    return encode_rows(ready()[1], task_rows(tasks(160, split='test', seed=2)))


@torch.no_grad()
def loss(model):
    "Mean over all words of the answers"
    from llm_course.pretraining.lm import causal_loss
    model.eval()
    total = sum(causal_loss(model(torch.tensor([ids])).logits, torch.tensor([labels]), 'sum').item() for ids, labels in fresh())
    return total/sum(label != -100 for _, labels in fresh() for label in labels)


def learnt(ours, peer):
    "Orders, batches and schedules differ, so the trained models are compared, on answers that neither has read"
    mine, theirs = loss(ours), loss(peer)
    assert mine < 1.1*theirs, f'held-out loss {mine:.3f}, the peer has {theirs:.3f}'
    return f'held-out losses {mine:.2f} and {theirs:.2f}'


def peak(ready):
    "Megabytes of torch results alive at once at most, and the output: the process itself grows by chance, and not by more than these"
    from llm_course.quantization.integer import PeakMemory
    work = ready()
    with PeakMemory() as memory: output = work()
    return memory.peak/1e6, output


@cache
def llama():
    "A Llama of hidden 512 and 4 layers, rows, and the first A of each layer"
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from llm_course.finetuning.lora import add_lora, lora_state_dict
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=2048, hidden_size=512, intermediate_size=1376, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4)
    weights = LlamaForCausalLM(config).state_dict()
    def fresh():
        model = LlamaForCausalLM(config)
        model.load_state_dict(weights)
        return model
    first = {name: t.clone() for name, t in lora_state_dict(add_lora(fresh(), 8, 16)).items()}
    return fresh, torch.randint(2048, (4, 128)), first


def steps(model, count):
    "Function that takes a few steps and returns the losses; the model goes back to its first weights before"
    import torch
    ids = llama()[1]
    trained = [p for p in model.parameters() if p.requires_grad]
    first = [p.detach().clone() for p in trained]
    def work():
        losses = []
        with torch.no_grad():
            for p, t in zip(trained, first): p.copy_(t)
        optimizer = torch.optim.AdamW(trained, lr=1e-3)
        for _ in range(count):
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses
    work() # kernels and buffers are ready
    return work


@cache
def lora_ours(count):
    from llm_course.finetuning.lora import add_lora, lora_state_dict
    fresh, _, first = llama()
    model = add_lora(fresh(), 8, 16)
    for name, t in lora_state_dict(model).items(): t.copy_(first[name])
    return steps(model, count)


@cache
def lora_peer(count):
    logging.disable(logging.WARNING)
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    fresh, _, first = llama()
    model = get_peft_model(fresh(), LoraConfig(r=8, lora_alpha=16, target_modules='all-linear'))
    for name, t in get_peft_model_state_dict(model).items(): t.copy_(first[name])
    return steps(model, count)


def same_losses(ours, peer):
    gap = max(abs(a-b) for a, b in zip(ours, peer, strict=True))
    assert gap < 1e-5, f'the losses differ by {gap:.1g}'
    return f'losses within {gap:.0e}'

NAMES = [f'a{i}' for i in range(16)]


@cache
def served():
    "A Llama of hidden 512 and 4 layers, sixteen saved adapters of rank 8, rows of one prompt each"
    import torch
    from llm_course.finetuning.lora import add_lora, lora_layers, save_adapter
    (fresh, _, _), home = llama(), Path(tempfile.mkdtemp())
    for name in NAMES:
        tuned = add_lora(fresh(), 8, 16)
        for layer in lora_layers(tuned).values(): torch.nn.init.normal_(layer.B, std=.02)
        save_adapter(tuned, home/name, base='base')
    return fresh, home, torch.randint(2048, (16, 16))


def repeated(f, n=5):
    "Function that does the work several times without gradients; the first call is not counted"
    import torch
    def work():
        with torch.no_grad():
            for _ in range(n): out = f()
        return out
    f()
    return work


@cache
def mixed_ours():
    from llm_course.finetuning.adapter import Switch
    fresh, home, ids = served()
    switch = Switch(fresh(), slots=16)
    for name in NAMES: switch.load(name, home/name)
    def forward():
        with switch.rows(NAMES) as model: return model(ids).logits
    return repeated(forward)


@cache
def mixed_peer(mixed):
    logging.disable(logging.WARNING)
    import torch
    from peft import PeftModel
    fresh, home, ids = served()
    model = PeftModel.from_pretrained(fresh(), home/NAMES[0], adapter_name=NAMES[0])
    for name in NAMES[1:]: model.load_adapter(home/name, name)
    model.eval()
    if mixed: return repeated(lambda: model(ids, adapter_names=NAMES).logits)
    def one_by_one():
        out = []
        for i, name in enumerate(NAMES):
            model.set_adapter(name)
            out.append(model(ids[i:i+1]).logits)
        return torch.cat(out)
    return repeated(one_by_one)


def same_logits(ours, peer):
    gap = (ours-peer).abs().max().item()
    assert gap < 1e-3, f'the logits differ by {gap:.1g}'
    return f'logits within {gap:.0e}'


rows = [Row('sft-padded', 'TRL SFTTrainer', sft_ours, partial(sft_peer, False), learnt, ratio=1/1.5),
        Row('sft-packed', 'TRL SFTTrainer, packing', sft_ours, partial(sft_peer, True), learnt, ratio=1.),
        Row('sft-memory-padded', 'TRL SFTTrainer', sft_ours, partial(sft_peer, False), learnt, ratio=1., cost=grown),
        Row('sft-memory-packed', 'TRL SFTTrainer, packing', sft_ours, partial(sft_peer, True), learnt, ratio=1., cost=grown),
        Row('lora-step', 'peft', partial(lora_ours, 3), partial(lora_peer, 3), same_losses, ratio=1.),
        Row('lora-memory', 'peft', partial(lora_ours, 1), partial(lora_peer, 1), same_losses, ratio=1., cost=peak),
        Row('mixed-adapters', 'peft, adapter_names', mixed_ours, partial(mixed_peer, True), same_logits, ratio=1.),
        Row('mixed-adapters-switched', 'peft, set_adapter row by row', mixed_ours, partial(mixed_peer, False), same_logits, ratio=.8)]
