"""`qengine score` against transformers, on tiny random Llama models and on the demo model.

    build/venv/bin/python tests/oracle/score_test.py BIN_DIR

Each tiny model takes one thing the architecture allows to its edge: grouped-query attention, a tied
and an own head, head_dim that is not hidden / heads, Llama 3's frequency bands, sizes that fill no
vector. The demo model is deep and read from GGUF: every evaluation and compute once is enough of it.
The quantized weights are made here, by NumPy. NLL within 1e-4 relative, KL within 1e-3,
top-1 equal but for ties. In bf16 the products read rounded values here, too; a value that rounds the
other way after sums in another order moves a loss by more: see TOLERANCES.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import reference
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

UDHR = "build/data/udhr"
DEMO_MODEL = "build/models/smollm2-135m"
LANGUAGES = ["eng", "arb", "cmn_hans"]
DOCUMENTS = ["preamble", "1", "2", "19"]
BITS, GROUP = 4, 64
QUANTIZER = f"rtn:bits={BITS},group={GROUP}"

# Relative: NLL, KL. And how near logits tie. A deep model's noise floor in bf16 is high
# (docs/metrics.md): there it is the tiny models that prove the arithmetic.
TOLERANCES = {"fp32": (1e-4, 1e-3, 1e-4), "bf16": (2e-4, 2e-3, 5e-2)}
DEEP_TOLERANCES = TOLERANCES | {"bf16": (4e-3, 5e-2, 5e-1)}

DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
TINY_MODELS = {
    "grouped-query, tied": dict(
        hidden_size=64, intermediate_size=176, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=DEFAULT_ROPE),
    "own head, llama3 bands": dict(
        hidden_size=96, intermediate_size=200, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, tie_word_embeddings=False, rope_parameters=LLAMA3_ROPE),
    "head_dim apart, odd sizes": dict(
        hidden_size=72, intermediate_size=130, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, head_dim=20, tie_word_embeddings=False, rms_norm_eps=1e-6,
        rope_parameters=DEFAULT_ROPE),
}


def train_tokenizer(texts, folder, adds_bos):
    """A byte-level BPE tokenizer in the files a Hugging Face model directory holds."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=701, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}))
    return tokenizer


def make_tiny_model(options, tokenizer, folder, seed):
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=1024,
                         bos_token_id=tokenizer.token_to_id("<s>"),
                         eos_token_id=tokenizer.token_to_id("</s>"),
                         attn_implementation="eager", **options)
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():  # far from uniform, so that errors show
        parameter.data = torch.randn_like(parameter) * (0.2 if parameter.dim() > 1 else 0.3) + (
            0.0 if parameter.dim() > 1 else 1.0)
    model.save_pretrained(folder, safe_serialization=True)
    return model


def qengine_score(binary, model, texts, *flags):
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(texts, file)
        file.flush()
        command = [binary, "score", "--model", str(model), "--texts", file.name, *flags]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8")
    return {(r["language"], r["document"]): r for r in map(json.loads, done.stdout.splitlines())}


class Comparison:
    def __init__(self):
        self.values = 0
        self.failures = []

    def relative(self, where, key, got, want, tolerance):
        self.values += 1
        if not abs(got - want) <= tolerance * max(abs(want), 1e-6):
            self.failures.append(f"{where} {key}: qengine {got}, reference {want}")

    def equal(self, where, key, got, want):
        self.values += 1
        if got != want:
            self.failures.append(f"{where} {key}: qengine {got}, reference {want}")


def near_ties(log_p, tolerance):
    """Tokens whose two largest logits differ by less than rounding may."""
    top = log_p.topk(2, dim=1).values
    return int((top[:, 0] - top[:, 1] < tolerance).sum())


def expected_row(log_q, log_fp, ids, text, token_bytes, aligned):
    row = reference.score(log_q, log_fp, ids)
    row["bytes"] = len(text.encode())
    row["chars"] = len(text)
    row["bytes_scored"] = row["bytes"] if aligned else sum(token_bytes(i) for i in ids[1:])
    return row


def compare(name, model, score, texts, encode, token_bytes, result):
    """All evaluations, configurations and computes of one model."""
    all_sets = [None, "none", f"L0+L{model.config.num_hidden_layers - 1}"]
    for compute, evaluation in [("fp32", "aligned"), ("fp32", "hf-text"), ("bf16", "aligned")]:
        compare_in(compute, evaluation, all_sets, TOLERANCES, name, model, score, texts, encode,
                   token_bytes, result)


def compare_in(compute, evaluation, layer_sets, tolerances, name, model, score, texts, encode,
               token_bytes, result):
    """layer_sets: None is the baseline."""
    last = model.config.num_hidden_layers - 1
    nll_tolerance, kl_tolerance, tie = tolerances[compute]
    with reference.products_in(compute, model):
        ids = {(l, i): encode(text, evaluation) for l, list_ in texts.items()
               for i, text in enumerate(list_)}
        fp = {key: reference.log_probabilities(model, value) for key, value in ids.items()}
        for protect in layer_sets:
            flags = ["--eval", evaluation, "--compute", compute]
            saved = {}
            if protect is not None:
                flags += ["--quantizer", QUANTIZER, "--protect", protect]
                saved = reference.quantize_linears(model, set() if protect == "none" else {0, last},
                                                   BITS, GROUP)
            rows = score(texts, *flags)
            result.equal(name, "rows", sorted(rows), sorted(ids))
            for (language, i), row in rows.items():
                where = f"{name}, {compute}, {evaluation}, protect {protect}, {language} {i}"
                sequence, log_fp = ids[language, i], fp[language, i]
                log_q = reference.log_probabilities(model, sequence) if protect else log_fp
                want = expected_row(log_q, log_fp, sequence, texts[language][i], token_bytes,
                                    evaluation == "aligned")
                for key in ["nll_sum", "nll_fp_sum"]:
                    result.relative(where, key, row[key], want[key], nll_tolerance)
                result.relative(where, "kl_sum", row["kl_sum"], want["kl_sum"], kl_tolerance)
                for key in ["tokens", "bytes", "chars", "bytes_scored"]:
                    result.equal(where, key, row[key], want[key])
                ties = near_ties(log_q, tie) + near_ties(log_fp, tie)
                result.equal(where, "top1 but for ties", abs(row["top1"] - want["top1"]) <= ties, True)
                result.equal(where, "nonfinite", row["nonfinite"], 0)
            reference.restore(model, saved)


def compare_tiny_models(binary, texts, result):
    with tempfile.TemporaryDirectory() as root:
        for seed, (name, options) in enumerate(TINY_MODELS.items()):
            folder = pathlib.Path(root) / str(seed)
            folder.mkdir()
            adds_bos = seed == 1
            tokenizer = train_tokenizer(sum(texts.values(), []), folder, adds_bos)
            model = make_tiny_model(options, tokenizer, folder, seed)
            bos = tokenizer.token_to_id("<s>")

            def encode(text, evaluation):
                if evaluation == "aligned":
                    return [bos] + tokenizer.encode(text, add_special_tokens=False).ids
                return tokenizer.encode(text).ids

            byte_level = {t: len(t) for t in pre_tokenizers.ByteLevel.alphabet()}

            def token_bytes(i):
                return sum(byte_level[c] for c in tokenizer.id_to_token(i))

            compare(name, model, lambda t, *flags: qengine_score(binary, folder, t, *flags),
                    texts, encode, token_bytes, result)


def compare_demo_model(binary, texts, result):
    model, reader = reference.load_gguf(reference.only_gguf(DEMO_MODEL))
    tokenizer = reference.gguf_tokenizer(reader)
    bos = reference.field(reader, "tokenizer.ggml.bos_token_id")

    def encode(text, evaluation):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        return [bos] + ids if evaluation == "aligned" else ids

    ends = f"L0+L{model.config.num_hidden_layers - 1}"
    for compute, evaluation, layer_set, languages in [
            ("fp32", "aligned", "none", LANGUAGES), ("fp32", "hf-text", ends, LANGUAGES),
            ("bf16", "aligned", ends, LANGUAGES[:1])]:
        compare_in(compute, evaluation, [layer_set], DEEP_TOLERANCES, "SmolLM2", model,
                   lambda t, *flags: qengine_score(binary, DEMO_MODEL, t, *flags),
                   {l: texts[l] for l in languages}, encode,
                   lambda i: len(tokenizer.id_to_token(i)), result)


def main():
    binary = f"{sys.argv[1]}/qengine"
    torch.set_num_threads(1)  # spinning threads starve each other on a busy machine
    np.seterr(all="raise")
    udhr = {l: reference.udhr_documents(UDHR, l) for l in LANGUAGES}
    texts = {l: [documents[d] for d in DOCUMENTS] for l, documents in udhr.items()}
    result = Comparison()
    compare_tiny_models(binary, texts, result)
    compare_demo_model(binary, {l: list_[1:2] for l, list_ in texts.items()}, result)
    for failure in result.failures[:40]:
        print(failure)
    print(f"{result.values} values compared, {len(result.failures)} differ")
    return 1 if result.failures or result.values < 1000 else 0


if __name__ == "__main__":
    sys.exit(main())
