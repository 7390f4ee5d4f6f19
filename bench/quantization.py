"The quantization chapter against the libraries it is held to"
from functools import cache
from harness import Row


@cache
def matrix(rows=2048, columns=2048):
    "Weights as they are in a model: small and nearly normal"
    import torch
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))*.02


def gguf_ours(kind):
    from llm_course.quantization.gguf import ENCODE
    x = matrix()
    return lambda: ENCODE[kind](x)


def gguf_peer(kind):
    from gguf import GGMLQuantizationType, quants
    x, number = matrix().numpy(), GGMLQuantizationType[kind]
    return lambda: quants.quantize(x, number).tobytes()


def nf4_ours():
    from llm_course.quantization.nf4 import pack, quantize_nf4
    x = matrix()
    def work():
        codes, absmax = quantize_nf4(x)
        return pack(codes), absmax
    return work


def nf4_peer():
    from bitsandbytes.functional import quantize_4bit
    x = matrix()
    def work():
        packed, state = quantize_4bit(x, blocksize=64, quant_type='nf4')
        return packed.flatten(), state.absmax
    return work


def same_bytes(ours, peer):
    assert ours == peer, f'{sum(a != b for a, b in zip(ours, peer))} of {len(peer)} bytes differ'
    return 'all bytes'


def same_tensors(ours, peer):
    import torch
    assert all(torch.equal(a, b) for a, b in zip(ours, peer)), 'packed codes or scales differ'
    return 'all bytes'


@cache
def layer():
    import torch
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1024, 1024, generator=generator)
    x = torch.randn(4096, 1024, generator=generator)@torch.randn(1024, 1024, generator=generator)
    return weight, x.T@x


def gptq_ours():
    from llm_course.quantization.gptq import gptq
    return lambda: gptq(*layer())


def gptq_peer():
    "The algorithm as the paper first states it: each column moves all behind it at once"
    import torch
    from llm_course.quantization.gptq import inverse_factor
    from llm_course.quantization.integer import zeropoint
    weight, hessian = layer()
    def work():
        _, scale, zero = zeropoint(weight, 4, dim=1, block=128)
        w, factor, q = weight.clone(), inverse_factor(hessian), torch.empty_like(weight)
        for i in range(w.shape[1]):
            s, z = scale[:, i], zero[:, i].float()
            q[:, i] = ((w[:, i]/s).round()+z).clamp(0, 15)
            error = (w[:, i]-(q[:, i]-z)*s)/factor[i, i]
            w[:, i+1:] -= error[:, None]*factor[i, i+1:]
        return q.byte(), scale[:, ::128], zero[:, ::128]
    return work


def same_layer(ours, peer):
    "Ties may fall the other way in float32 and move what is behind them: few integers, and no change of the error"
    import torch
    from llm_course.quantization.gptq import grouped, layer_error
    weight, hessian = layer()
    assert torch.equal(ours[1], peer[1]) and torch.equal(ours[2], peer[2]), 'scales or zeros differ'
    share = (ours[0] == peer[0]).float().mean().item()
    ratio = layer_error(weight, grouped(*ours), hessian)/layer_error(weight, grouped(*peer), hessian)
    assert share > .97 and abs(ratio-1) < .01, f'{share:.4f} of the integers equal, errors {ratio:.4f}'
    return f'{share:.4f} of the integers, errors {ratio:.4f}'


rows = [
    Row('gptq-lazy-batches', 'column by column', gptq_ours, gptq_peer, same_layer, ratio=1/3),
    *(Row(f'{kind.lower()}-4m', 'gguf.quants', lambda kind=kind: gguf_ours(kind), lambda kind=kind: gguf_peer(kind), same_bytes, ratio=1.) for kind in ('Q8_0', 'Q4_0')),
    Row('nf4-4m', 'bitsandbytes on the CPU', nf4_ours, nf4_peer, same_tensors, ratio=1.)]
