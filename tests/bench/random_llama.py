"""Random Llamas with a token per byte, as Hugging Face directories, and texts for them."""
import ctypes
import json
import random

import torch

DTYPES = {"F32": torch.float32, "F16": torch.float16}
TINY = dict(layers=4, hidden=256, intermediate=688, heads=8, kv_heads=4, vocabulary=1000, context=512,
            spread=0.06)
LLAMA_7B = dict(layers=32, hidden=4096, intermediate=11008, heads=32, kv_heads=32, vocabulary=32000,
                context=4096, spread=0.02)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tokenizer():
    """GPT-2's letters for bytes: printable ones stand for themselves, the others come from 256 on."""
    vocabulary, following = {}, 256
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174:
            vocabulary[chr(byte)] = byte
        else:
            vocabulary[chr(following)] = byte
            following += 1
    added = [{"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for id, content in ((256, "<s>"), (257, "</s>"))]
    return {"version": "1.0", "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                              "use_regex": True},
            "post_processor": None, "decoder": None,
            "model": {"type": "BPE", "dropout": None, "unk_token": None,
                      "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": []}}


def config(shape):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_size": shape["hidden"],
            "intermediate_size": shape["intermediate"], "num_hidden_layers": shape["layers"],
            "num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv_heads"],
            "head_dim": shape["hidden"] // shape["heads"], "max_position_embeddings": shape["context"],
            "vocab_size": shape["vocabulary"], "tie_word_embeddings": False, "bos_token_id": 256,
            "eos_token_id": 257}


def layer_shapes(shape):
    hidden, wide = shape["hidden"], shape["intermediate"]
    kv = hidden // shape["heads"] * shape["kv_heads"]
    return {"input_layernorm": [hidden], "self_attn.q_proj": [hidden, hidden],
            "self_attn.k_proj": [kv, hidden], "self_attn.v_proj": [kv, hidden],
            "self_attn.o_proj": [hidden, hidden], "post_attention_layernorm": [hidden],
            "mlp.gate_proj": [wide, hidden], "mlp.up_proj": [wide, hidden], "mlp.down_proj": [hidden, wide]}


def some(shape, spread, dtype, generator):
    """Weights of a matrix, or of a norm."""
    values = torch.randn(shape, generator=generator)
    return (1 + 0.1 * values if len(shape) == 1 else spread * values).to(dtype).contiguous()


def write(directory, shape, type_name):
    """A model of SHAPE; all layers have the weights of one."""
    generator = torch.Generator().manual_seed(1)
    dtype = DTYPES[type_name]

    def new(size):
        return some(size, shape["spread"], dtype, generator)
    layer = {f"{name}.weight": new(size) for name, size in layer_shapes(shape).items()}
    embedding = [shape["vocabulary"], shape["hidden"]]
    tensors = {"model.embed_tokens.weight": new(embedding)}
    for number in range(shape["layers"]):
        tensors |= {f"model.layers.{number}.{name}": values for name, values in layer.items()}
    tensors |= {"model.norm.weight": new([shape["hidden"]]), "lm_head.weight": new(embedding)}
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config(shape)))
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (directory / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    write_safetensors(directory / "model.safetensors", tensors, type_name)


def write_safetensors(path, tensors, type_name):
    header, at = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": type_name, "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            size = tensor.numel() * tensor.element_size()
            file.write((ctypes.c_char * size).from_address(tensor.data_ptr()))


def words(source, length, letters=LETTERS):
    text = ""
    while len(text) < length:
        text += "".join(source.choice(letters) for _ in range(source.randint(2, 9))) + " "
    return text[:length - 1] + "."


def tiny_texts():
    """{language: texts} of 40 to 200 characters."""
    source = random.Random(2)
    alphabets = {"aaa": LETTERS, "bbb": "абвгдежзиклмнопрст", "ccc": "éèàùâêîôûçabcdefgh"}
    return {language: [words(source, length, letters) for length in (40, 111, 200)]
            for language, letters in alphabets.items()}


def long_texts(count, tokens):
    """{language: texts}: `tokens` are scored in each."""
    source = random.Random(3)
    return {"aaa": [words(source, tokens) for _ in range(count)]}
