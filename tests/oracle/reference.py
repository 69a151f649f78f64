"""Independent answers: transformers' forward pass, NumPy's quantizers, an own reader of the UDHR.

Shares nothing with qsweep but file formats. Used by the oracle scripts beside it.
"""
import contextlib
import functools
import glob
import html
import math
import re
from collections import Counter

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

BLOCK_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def field(reader, key):
    return reader.fields[key].contents()


def unpermute(rows, heads):
    """llama.cpp stores row h*hd + 2i + j of Q and K where Hugging Face has h*hd + j*hd/2 + i."""
    out, columns = rows.shape
    return rows.reshape(heads, out // heads // 2, 2, columns).swapaxes(1, 2).reshape(out, columns)


def hugging_face_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    if name == "output.weight":
        return "lm_head.weight"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{BLOCK_NAMES[part]}.{kind}"


def load_gguf(path):
    """The model of a llama-architecture GGUF file in fp32, its tokens and its BOS id."""
    reader = gguf.GGUFReader(path)
    heads = field(reader, "llama.attention.head_count")
    kv_heads = field(reader, "llama.attention.head_count_kv")
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if ".attn_q." in tensor.name:
            values = unpermute(values, heads)
        elif ".attn_k." in tensor.name:
            values = unpermute(values, kv_heads)
        tensors[hugging_face_name(tensor.name)] = torch.from_numpy(np.ascontiguousarray(values))
    vocabulary, hidden = tensors["model.embed_tokens.weight"].shape
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden,
        intermediate_size=field(reader, "llama.feed_forward_length"),
        num_hidden_layers=field(reader, "llama.block_count"),
        num_attention_heads=heads, num_key_value_heads=kv_heads,
        max_position_embeddings=field(reader, "llama.context_length"),
        rms_norm_eps=field(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default",
                         "rope_theta": float(field(reader, "llama.rope.freq_base"))},
        tie_word_embeddings="lm_head.weight" not in tensors, attn_implementation="eager")
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model.eval(), reader


def gguf_tokenizer(reader):
    """The official `tokenizers` library with a GGUF file's byte-level BPE vocabulary."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    tokens = field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ", 1)) for m in field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    types = field(reader, "tokenizer.ggml.token_type")
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def udhr_documents(folder, language):
    """Aligned id -> text: paragraphs and list items in order, headings left out."""
    with open(f"{folder}/declaration/{language}.html", encoding="utf-8") as file:
        page = file.read()
    parts = re.findall(r'<article data-number="(\d+)"[^>]*>(.*?)</article>', page, re.S)
    parts += [("preamble", body) for body in re.findall(r"<header>(.*?)</header>", page, re.S)]
    documents = {}
    for name, body in parts:
        texts = re.findall(r"<(?:p|li)\b[^>]*>(.*?)</(?:p|li)>", body, re.S)
        documents[name] = "\n".join(html.unescape(re.sub(r"<[^>]+>", "", t)).strip() for t in texts)
    return documents


def rtn_group_absmax(weights, bits, group):
    """quantize-dequantize with one absmax scale per `group` consecutive inputs, all in fp32."""
    limit = 2 ** (bits - 1) - 1
    out = weights.copy()
    for start in range(0, weights.shape[1], group):
        part = weights[:, start:start + group]
        scale = (np.abs(part).max(axis=1, keepdims=True) / np.float32(limit)).astype(np.float32)
        safe = np.where(scale == 0, np.float32(1), scale)
        codes = np.clip(np.rint(part / safe), -limit - 1, limit).astype(np.float32)
        out[:, start:start + group] = np.where(scale == 0, part, codes * scale)
    return out


def quantize_linears(model, protected_layers, bits, group):
    """Quantizes every block linear outside protected_layers, in place; returns what was there."""
    saved = {}
    for name, parameter in model.named_parameters():
        match = re.match(r"model\.layers\.(\d+)\.(self_attn|mlp)\.\w+\.weight$", name)
        if match and int(match.group(1)) not in protected_layers:
            saved[name] = parameter.data
            parameter.data = torch.from_numpy(rtn_group_absmax(parameter.data.numpy(), bits, group))
    return saved


def restore(model, saved):
    parameters = dict(model.named_parameters())
    for name, data in saved.items():
        parameters[name].data = data


@contextlib.contextmanager
def products_in(compute, model):
    """Inside: what the model's linear layers read is rounded to bfloat16; sums stay fp32."""
    def rounded(x):
        return x.to(torch.bfloat16).to(torch.float32)

    def forward(layer, x):
        return torch.nn.functional.linear(rounded(x), rounded(layer.weight), layer.bias)

    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)] if compute == "bf16" else []
    for layer in layers:
        layer.forward = functools.partial(forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


@torch.no_grad()
def log_probabilities(model, ids):
    """[tokens - 1, vocabulary] in double: of each next token."""
    logits = model(torch.tensor([ids])).logits[0, :-1]
    return torch.log_softmax(logits.double(), dim=-1)


def score(log_q, log_fp, ids):
    """What a measurement row holds, from log-probabilities of a configuration and the baseline."""
    gold = torch.tensor(ids[1:])[:, None]
    return {
        "nll_sum": -log_q.gather(1, gold).sum().item(),
        "nll_fp_sum": -log_fp.gather(1, gold).sum().item(),
        "kl_sum": (log_fp.exp() * (log_fp - log_q)).sum().item(),
        "top1": int((log_q.argmax(1) == log_fp.argmax(1)).sum()),
        "tokens": len(ids) - 1,
    }


def unigram_nll(token_ids_by_document, document):
    """Add-1/2 unigram model of the other documents, one class for what they lack; in nats."""
    counts = Counter(t for name, ids in token_ids_by_document.items() if name != document for t in ids)
    total = sum(counts.values()) + 0.5 * (len(counts) + 1)
    return -sum(math.log((counts[t] + 0.5) / total) for t in token_ids_by_document[document])


def only_gguf(folder):
    (path,) = glob.glob(f"{folder}/*.gguf")
    return path
