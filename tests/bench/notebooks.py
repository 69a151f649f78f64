"""What qsweep is measured against: sweeps and quantizers as notebooks have them, in PyTorch.

Written for the benchmark; nothing of it is in the product.
"""
import math
import re
import time

import torch
import torch.nn.functional as F

LINEAR = re.compile(r"model\.layers\.(\d+)\.(self_attn|mlp)\.\w+\.weight$")


def linear_weights(model):
    """(layer, name, parameter) of every matrix of a block."""
    for name, parameter in model.named_parameters():
        match = LINEAR.match(name)
        if match:
            yield int(match.group(1)), name, parameter


def rtn(weights, bits, group):
    """Quantize-dequantize, an absmax scale for `group` inputs, an operation after another."""
    limit = 2 ** (bits - 1) - 1
    parts = weights.view(weights.shape[0], -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True) / limit
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    codes = torch.clamp(torch.round(parts / scale), -limit - 1, limit)
    return (codes * scale).view_as(weights)


@torch.no_grad()
def earlier_loop(model, documents, configurations, bits, group, weights=None):
    """The loop of the earlier work: restore a copy, quantize, one text per forward.

    model: of fp32 weights, or of bf16 with the fp32 ones in `weights`, which are quantized then and
    rounded after it. documents: lists of token ids. configurations: sets of protected layers, None
    for the model as it is. Returns NLL sums [configuration][document] and seconds.
    """
    began = time.perf_counter()
    copy = weights or {name: value.clone() for name, value in model.state_dict().items()}
    sums = []
    for protected in configurations:
        model.load_state_dict(copy)
        if protected is not None:
            for layer, name, parameter in linear_weights(model):
                if layer not in protected:
                    parameter.data = rtn(copy[name], bits, group).to(parameter.dtype)
        row = []
        for ids in documents:
            batch = torch.tensor([ids])
            loss = model(batch, labels=batch).loss
            row.append(loss.item() * (len(ids) - 1))
        sums.append(row)
    model.load_state_dict(copy)
    return sums, time.perf_counter() - began


class Batches:
    """Documents of similar length together, padded on the right, where causal attention never looks."""

    def __init__(self, documents, tokens):
        order = sorted(range(len(documents)), key=lambda d: len(documents[d]))
        self.batches = []
        while order:
            longest = len(documents[order[-1]])
            count = max(1, tokens // longest)
            self.batches.append(order[-count:])
            order = order[:-count]
        self.ids = [torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(documents[d]) for d in batch], batch_first=True) for batch in self.batches]
        self.lengths = [[len(documents[d]) for d in batch] for batch in self.batches]


def nll_in_tiles(model, hidden, ids, lengths, tile=512):
    """NLL sum of each document of a batch; logits of `tile` positions at a time."""
    hidden = model.model.norm(hidden)
    sums = [0.0] * len(lengths)
    rows, owners, golds = [], [], []
    for d, length in enumerate(lengths):
        rows.append(hidden[d, :length - 1])
        golds.append(ids[d, 1:length])
        owners += [d] * (length - 1)
    rows, golds, owners = torch.cat(rows), torch.cat(golds), torch.tensor(owners)
    for start in range(0, len(rows), tile):
        logits = model.lm_head(rows[start:start + tile])
        nll = F.cross_entropy(logits, golds[start:start + tile], reduction="none")
        for d in range(len(lengths)):
            sums[d] += nll[owners[start:start + tile] == d].double().sum().item()
    return sums


@torch.no_grad()
def good_loop(model, quantized, documents, bits, group):
    """A good notebook for the sweep of single layers: batches, states kept where a layer forks.

    model, quantized: two copies of the model; the second is quantized here. Returns NLL sums
    [configuration][document], in the order baseline, none, each layer protected, and seconds.
    """
    began = time.perf_counter()
    for _, _, parameter in linear_weights(quantized):
        parameter.data = rtn(parameter.data, bits, group)
    layers = model.config.num_hidden_layers
    sums = [[0.0] * len(documents) for _ in range(layers + 2)]
    batches = Batches(documents, tokens=1024)
    for batch, ids, lengths in zip(batches.batches, batches.ids, batches.lengths):
        position_ids = torch.arange(ids.shape[1])[None]
        embedded = model.model.embed_tokens(ids)
        rotary = model.model.rotary_emb(embedded, position_ids)

        def through(network, hidden, first, last):
            for layer in network.model.layers[first:last]:
                out = layer(hidden, attention_mask=None, position_ids=position_ids,
                            position_embeddings=rotary)
                hidden = out[0] if isinstance(out, tuple) else out
            return hidden

        def keep(configuration, hidden):
            for d, nll in zip(batch, nll_in_tiles(model, hidden, ids, lengths)):
                sums[configuration][d] = nll

        keep(0, through(model, embedded, 0, layers))
        shared = embedded
        for layer in range(layers):
            forked = through(model, shared, layer, layer + 1)
            keep(2 + layer, through(quantized, forked, layer + 1, layers))
            shared = through(quantized, shared, layer, layer + 1)
        keep(1, shared)
    return sums, time.perf_counter() - began


NF4_LEVELS = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
              -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
              0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
              0.7229568362236023, 1.0]


def nf4(weights, group):
    """Quantize-dequantize: a level of the normal distribution for each quotient by a group's largest."""
    levels = torch.tensor(NF4_LEVELS)
    parts = weights.reshape(-1, group)
    largest = parts.abs().amax(dim=1, keepdim=True)
    middles = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(parts * (1 / largest), middles)  # of a middle the lower one
    return (levels[codes] * largest).view_as(weights)


def hqq(weights, bits, group):
    """HQQ's solver with its package's defaults, groups of consecutive weights."""
    top = 2 ** bits - 1
    parts = weights.reshape(-1, group)
    low, high = parts.amin(dim=1, keepdim=True), parts.amax(dim=1, keepdim=True)
    span = high - low
    inverse = torch.where(span <= 1e-4, torch.ones_like(span), (top / span).clamp(max=2e4))
    zero = torch.round(-low * inverse)
    best = math.inf
    for _ in range(20):
        codes = torch.round(parts * inverse + zero).clamp(0, top)
        error = parts - (codes - zero) / inverse
        shrunk = torch.sign(error) * F.relu(error.abs() - error.abs().pow(-0.3) / 10)
        zero = torch.mean(codes - (parts - shrunk) * inverse, dim=1, keepdim=True)
        now = error.abs().mean().item()
        if now >= best:
            break
        best = now
    codes = torch.round(parts * inverse + zero).clamp(0, top)
    return ((codes - zero) / inverse).view_as(weights)


def gptq(weights, hessian, bits, group, damp=0.01, block=128, trace=None):
    """GPTQ as its authors' repository computes it: fp32, asymmetric, no reordering.

    trace: a list that gets of each column its codes, and what was rounded to them and to zero points.
    """
    top = 2 ** bits - 1
    weights = weights.clone()
    rows, columns = weights.shape
    hessian = hessian.clone()
    dead = torch.diag(hessian) == 0
    hessian[dead, dead] = 1
    weights[:, dead] = 0
    hessian.diagonal().add_(damp * torch.mean(torch.diag(hessian)))
    inverse = torch.linalg.cholesky(
        torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    out = torch.zeros_like(weights)
    for first in range(0, columns, block):
        last = min(first + block, columns)
        part = weights[:, first:last].clone()
        errors = torch.zeros_like(part)
        within = inverse[first:last, first:last]
        for i in range(last - first):
            if (first + i) % group == 0:
                of_group = weights[:, first + i:first + i + group]
                low = of_group.amin(dim=1).clamp(max=0)
                high = of_group.amax(dim=1).clamp(min=0)
                empty = (low == 0) & (high == 0)
                low[empty], high[empty] = -1, 1
                scale = (high - low) / top
                zero = torch.round(-low / scale)
            column = part[:, i]
            codes = torch.clamp(torch.round(column / scale) + zero, 0, top)
            if trace is not None:
                trace.append((codes, column / scale, -low / scale))
            rounded = scale * (codes - zero)
            out[:, first + i] = rounded
            error = (column - rounded) / within[i, i]
            part[:, i:] -= error[:, None] * within[i, i:][None]
            errors[:, i] = error
        weights[:, last:] -= errors @ inverse[first:last, last:]
    return out
