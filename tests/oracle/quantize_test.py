"""What `qengine quantize` writes, read by transformers and by NumPy, and packed models it is given.

    build/venv/bin/python tests/oracle/quantize_test.py BIN_DIR

- float32: transformers loads each tiny model and the demo model (GGUF) with the weights and the logits, to
  the last bit, of the model that NumPy has quantized in memory; the tokenizer gives the same ids.
- with the largest weights of the model kept: as NumPy sorts, rounds and puts them back, to the last bit.
- gptq: unpacked here, it has the weights of the float32 one.
- GPTQ checkpoints packed here, v1 and v2, 2, 3, 4 and 8 bits: read as the weights they were made of.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import reference
import torch
from safetensors.numpy import load_file, save_file
from score_test import (DEMO_MODEL, DOCUMENTS, LANGUAGES, TINY_MODELS, UDHR, Comparison, make_tiny_model,
                        train_tokenizer)
from transformers import AutoModelForCausalLM, AutoTokenizer

BITS, GROUP = 4, 64
PACKED_QUANTIZERS = ["rtn:bits=4,group=32,scale=fp16", "rtn:bits=8,group=-1,sym=0,scale=fp16",
                     "rtn:bits=2,group=16,grid=awq,sym=0,scale=fp16"]


def run(binary, *arguments):
    command = [f"{binary}/qengine", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits


def unpack_codes(words, bits, count):
    """[count, n] codes of int32 words [count * bits / 32, n], by the places the format gives them."""
    words = words.view(np.uint32)
    if bits != 3:
        per_word = 32 // bits
        return np.stack([words[i // per_word] >> (bits * (i % per_word)) & (2**bits - 1)
                         for i in range(count)]).astype(np.int64)
    codes = []
    for first in range(0, len(words), 3):
        a, b, c = words[first:first + 3]
        codes += [a >> (3 * i) & 7 for i in range(10)]
        codes += [a >> 30 | (b & 1) << 2]
        codes += [b >> (3 * i + 1) & 7 for i in range(10)]
        codes += [b >> 31 | (c & 3) << 1]
        codes += [c >> (3 * i + 2) & 7 for i in range(10)]
    return np.stack(codes[:count]).astype(np.int64)


def pack_codes(codes, bits):
    """The inverse: codes [count, n] -> int32 words."""
    codes = codes.astype(np.uint32)
    if bits != 3:
        per_word = 32 // bits
        words = np.zeros((codes.shape[0] // per_word, codes.shape[1]), np.uint32)
        for i, row in enumerate(codes):
            words[i // per_word] |= row << np.uint32(bits * (i % per_word))
        return words.view(np.int32)
    words = []
    for first in range(0, len(codes), 32):
        part = codes[first:first + 32]
        a = sum(part[i] << np.uint32(3 * i) for i in range(10)) | (part[10] & 3) << np.uint32(30)
        b = part[10] >> 2 | sum(part[11 + i] << np.uint32(3 * i + 1) for i in range(10)) | (
            part[21] & 1) << np.uint32(31)
        c = part[21] >> 1 | sum(part[22 + i] << np.uint32(3 * i + 2) for i in range(10))
        words += [a, b, c]
    return np.stack(words).astype(np.uint32).view(np.int32)


def unpack(tensors, module, bits, minus_one):
    """The fp32 weights [out, in] of a packed module."""
    scales = tensors[f"{module}.scales"].astype(np.float32)  # [groups, out]
    g_idx = tensors[f"{module}.g_idx"]
    codes = unpack_codes(tensors[f"{module}.qweight"], bits, len(g_idx))  # [in, out]
    zeros = unpack_codes(np.ascontiguousarray(tensors[f"{module}.qzeros"].T), bits, scales.shape[1]).T
    if minus_one:
        zeros = (zeros + 1) % 2**bits
    return (scales[g_idx] * (codes - zeros[g_idx]).astype(np.float32)).T


def compare_float32(name, binary, source, model, texts, encode, root, result):
    """model: what transformers makes of the source, unquantized. texts: the last is also scored, which
    takes long and, of equal weights, tells no more."""
    target = root / "float32"
    report = json.loads(run(binary, "quantize", "--model", source, "--out", target, "--quantizer",
                            f"rtn:bits={BITS},group={GROUP}", "--protect", "L0", "-o", "json"))
    layers = model.config.num_hidden_layers
    result.equal(name, "tensors_quantized", report["items"][0]["tensors_quantized"], 7 * (layers - 1))
    # It may stand for the source's weights, also where that is a GGUF file with a tokenizer of its own form.
    run(binary, "describe", "--model", target, "--of", source)
    saved = reference.quantize_linears(model, {0}, BITS, GROUP)
    loaded = AutoModelForCausalLM.from_pretrained(target, attn_implementation="eager").eval()
    result.equal(name, "dtype", loaded.dtype, torch.float32)
    result.equal(name, "tied", loaded.config.tie_word_embeddings, model.config.tie_word_embeddings)
    mine, theirs = dict(model.named_parameters()), dict(loaded.named_parameters())
    result.equal(name, "parameters", sorted(theirs), sorted(mine))
    for parameter in mine:
        result.equal(name, parameter, torch.equal(theirs[parameter], mine[parameter]), True)
    tokenizer = AutoTokenizer.from_pretrained(target)
    for text in texts:
        ids = encode(text)
        result.equal(name, "ids", tokenizer(text)["input_ids"], ids)
    result.equal(name, "logits", torch.equal(logits(loaded, ids), logits(model, ids)), True)
    reference.restore(model, saved)


def compare_kept(name, binary, source, root, result):
    """top3.125%: one threshold over all parameters that are named weight, whatever is quantized."""
    stored = {key: values.astype(np.float32) for key, values in load_file(source / "model.safetensors").items()}
    weights = {key: values for key, values in stored.items() if "weight" in key}
    magnitudes = np.sort(np.concatenate([np.abs(values).ravel() for values in weights.values()]))
    kept = int(magnitudes.size * 3125 // 100000)
    threshold = magnitudes[-kept]
    for quantizer, linears_only in [("rtn:bits=4,group=32", True), ("upstream:p5-weights,bits=2", False)]:
        target = root / f"kept-{linears_only}"
        run(binary, "quantize", "--model", source, "--out", target, "--quantizer", quantizer, "--protect",
            "L0+top3.125%")
        written = load_file(target / "model.safetensors")
        result.equal(name, "tensors", sorted(written), sorted(stored))
        restored = 0
        for key, values in weights.items():
            wanted = values
            if "layers.0." not in key and (not linears_only or "_proj." in key):
                if linears_only:
                    rounded = reference.rtn_group_absmax(values, 4, 32)
                else:
                    rounded = reference.rtn_group_absmax(values.reshape(1, -1), 2, values.size).reshape(values.shape)
                large = np.abs(values) >= threshold
                wanted = np.where(large, values, rounded)
                restored += np.count_nonzero(wanted != rounded)
            result.equal(f"{name} {quantizer} kept", key, np.array_equal(written[key], wanted), True)
        result.equal(name, "some are kept", restored > 0, True)


def compare_packed(name, binary, source, quantizer, root, result):
    folders = {}
    for form in ["float32", "gptq"]:
        folders[form] = root / f"{form}-{quantizer}"
        run(binary, "quantize", "--model", source, "--out", folders[form], "--quantizer", quantizer,
            "--protect", "L0+q@L1", "--format", form)
    config = json.loads((folders["gptq"] / "quantize_config.json").read_text())
    plain, packed = (load_file(folders[form] / "model.safetensors") for form in ["float32", "gptq"])
    modules = [key.removesuffix(".qweight") for key in packed if key.endswith(".qweight")]
    result.equal(name, "packed modules", len(modules) > 0, True)
    for module in modules:
        weights = unpack(packed, module, config["bits"], minus_one=False)
        result.equal(f"{name} {quantizer}", module,
                     np.array_equal(weights, plain.pop(f"{module}.weight")), True)
    for tensor, values in plain.items():
        result.equal(f"{name} {quantizer}", tensor, np.array_equal(packed[tensor], values), True)


def compare_ready_checkpoint(binary, source, bits, minus_one, root, result):
    """A model that is packed here, with everything the format lets vary."""
    name = f"ready, {bits} bits, v{1 if minus_one else 2}"
    folder, target = root / f"ready{bits}{minus_one}", root / f"read{bits}{minus_one}"
    folder.mkdir()
    random = np.random.default_rng(bits)
    packed, wanted = {}, {}
    for key, values in load_file(source / "model.safetensors").items():
        if "_proj.weight" not in key:
            packed[key] = wanted[key] = values
            continue
        module = key.removesuffix(".weight")
        rows, columns = values.shape
        groups = -(-columns // 48)
        codes = random.integers(0, 2**bits, (columns, rows))
        zeros = random.integers(0, 2**bits, (groups, rows))
        packed[f"{module}.qweight"] = pack_codes(codes, bits)
        stored = (zeros - 1) % 2**bits if minus_one else zeros
        packed[f"{module}.qzeros"] = np.ascontiguousarray(pack_codes(stored.T, bits).T)
        packed[f"{module}.scales"] = random.uniform(0.001, 0.1, (groups, rows)).astype(np.float16)
        packed[f"{module}.g_idx"] = random.permutation(np.arange(columns) // 48).astype(np.int32)
        wanted[key] = unpack(packed, module, bits, minus_one)
    save_file(packed, folder / "model.safetensors", {"format": "pt"})
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"]:
        (folder / file).write_bytes((source / file).read_bytes())
    (folder / "quantize_config.json").write_text(json.dumps(
        {"bits": bits, "group_size": 48, "desc_act": True, "sym": False,
         **({} if minus_one else {"checkpoint_format": "gptq_v2"})}))
    described = json.loads(run(binary, "describe", "--model", folder, "-o", "json"))["items"][0]
    result.equal(name, "prequantized", described["prequantized"],
                 "prequantized8" if bits == 8 else "prequantized")
    run(binary, "quantize", "--model", folder, "--out", target)
    read = load_file(target / "model.safetensors")
    result.equal(name, "tensors", sorted(read), sorted(wanted))
    for key, values in wanted.items():
        result.equal(name, key, np.array_equal(read[key], values), True)
    # As a configuration of the model: layer 0 is the model's.
    taken = root / f"taken{bits}{minus_one}"
    run(binary, "quantize", "--model", source, "--out", taken, "--quantizer", f"checkpoint:path={folder}",
        "--protect", "L0")
    read, own = load_file(taken / "model.safetensors"), load_file(source / "model.safetensors")
    for key, values in wanted.items():
        result.equal(f"{name}, taken", key,
                     np.array_equal(read[key], own[key] if ".layers.0." in key else values), True)


def compare_tiny_models(binary, texts, result):
    with tempfile.TemporaryDirectory() as root:
        for seed, (name, options) in enumerate(TINY_MODELS.items()):
            folder = pathlib.Path(root) / str(seed)
            source = folder / "source"
            source.mkdir(parents=True)
            tokenizer = train_tokenizer(texts, source, adds_bos=seed == 1)
            model = make_tiny_model(options, tokenizer, source, seed)
            compare_float32(name, binary, source, model, texts, lambda text: tokenizer.encode(text).ids,
                            folder, result)
            compare_kept(name, binary, source, folder, result)
            if options["intermediate_size"] % 16 == 0:  # else the format has no words for it
                for quantizer in PACKED_QUANTIZERS:
                    compare_packed(name, binary, source, quantizer, folder, result)
        options = dict(TINY_MODELS["grouped-query, tied"], intermediate_size=192)
        source = pathlib.Path(root) / "words"
        source.mkdir()
        make_tiny_model(options, train_tokenizer(texts, source, adds_bos=False), source, 9)
        for bits in [2, 3, 4, 8]:
            for minus_one in [True, False]:
                compare_ready_checkpoint(binary, source, bits, minus_one, pathlib.Path(root), result)


def compare_demo_model(binary, texts, result):
    model, reader = reference.load_gguf(reference.only_gguf(DEMO_MODEL))
    tokenizer = reference.gguf_tokenizer(reader)
    with tempfile.TemporaryDirectory() as root:
        compare_float32("SmolLM2", binary, DEMO_MODEL, model, texts,
                        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
                        pathlib.Path(root), result)


def main():
    torch.set_num_threads(1)  # spinning threads starve each other on a busy machine
    binary = sys.argv[1]
    texts = [reference.udhr_documents(UDHR, l)[d] for l in LANGUAGES for d in DOCUMENTS[:2]]
    result = Comparison()
    compare_tiny_models(binary, texts, result)
    compare_demo_model(binary, [*texts[::2], texts[1]], result)
    for failure in result.failures[:40]:
        print(failure)
    print(f"{result.values} values compared, {len(result.failures)} differ")
    return 1 if result.failures or result.values < 500 else 0


if __name__ == "__main__":
    sys.exit(main())
