#!/usr/bin/env python3
"""The engine's figures: runs both sides on this machine, prints a table, writes JSON.

    engine.py [--quick|--tiny] [--only sweep,kernels] [--tokens 7000] [--threads 2] [--folder DIR] [--out DIR]

Needs qbench_engine in --bin/../tests, the four programs in --bin, PyTorch and transformers;
`bash deploy/bench.sh engine` builds and installs them. docs/benchmarks.md says what each figure means.
"""
import argparse
import copy
import csv
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np

from figures import ROOT, Figures, load, say

sys.path.insert(0, str(ROOT / "tests/oracle"))
import notebooks  # noqa: E402
import reference  # noqa: E402
import torch  # noqa: E402
from score_test import make_tiny_model, train_tokenizer  # noqa: E402

SMOLLM2 = ROOT / "build/models/smollm2-135m"
FIGURES = ("sweep", "head-light", "kernels", "gptq", "workers")
LANGUAGES = ["eng", "fra", "spa", "deu_1996", "arb", "cmn_hans"]
BITS, GROUP = 4, 64
QUANTIZER = f"rtn:bits={BITS},group={GROUP}"
HEAD_LIGHT = dict(hidden_size=512, intermediate_size=1408, num_hidden_layers=32,
                  num_attention_heads=8, num_key_value_heads=8, tie_word_embeddings=False,
                  rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
TINY = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
NEAR_TIE = 2e-3  # steps; both sum thousands of products in fp32
FIXED_MEMORY = 200e6  # bytes that the asked bound grants besides weights and states


def product_seconds(shapes):
    """Of one row through products of (inputs, outputs): the best number of rows, the best of five."""
    best = float("inf")
    for rows in (128, 1024, 4096):
        pairs = [(torch.randn(rows, inputs), torch.randn(outputs, inputs)) for inputs, outputs in shapes]
        for _ in range(5):
            begin = time.perf_counter()
            for states, weights in pairs:
                torch.nn.functional.linear(states, weights)
            best = min(best, (time.perf_counter() - begin) / rows)
    return best


def anonymous_bytes(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    return 0


class Memory(threading.Thread):
    """The peak of a process's anonymous memory, looked at every 20 ms."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.peak = process, 0

    def run(self):
        while self.process.poll() is None:
            try:
                self.peak = max(self.peak, anonymous_bytes(self.process.pid))
            except OSError:
                return
            time.sleep(0.02)


class Bench(Figures):
    def __init__(self, options):
        super().__init__("engine", options.folder)
        self.options = options
        torch.set_num_threads(options.threads)
        self.environment |= {"torch": torch.__version__, "threads": options.threads}

    def ours(self, name, *arguments):
        """One run of qbench_engine; kept under `name` without its rows."""
        command = [str(self.options.bin.parent / "tests/qbench_engine"), *map(str, arguments)]
        before = load()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        memory = Memory(process)
        memory.start()
        output, _ = process.communicate()
        memory.join()
        if process.returncode != 0:
            raise SystemExit(f"engine.py: failed: {' '.join(command)}")
        result = json.loads(output) | {"anonymous_peak_bytes": memory.peak, "load": before}
        self.runs.setdefault(name, []).append({k: v for k, v in result.items() if k != "rows"})
        return result

    def udhr_texts(self, encode):
        """{language: texts}, articles in turn until all languages have about `tokens` together."""
        documents = {l: list(reference.udhr_documents(reference_udhr(), l).values()) for l in LANGUAGES}
        texts, tokens = {l: [] for l in LANGUAGES}, 0
        for number in range(min(map(len, documents.values()))):
            for language in LANGUAGES:
                text = documents[language][number]
                if tokens < self.options.tokens and len(encode(text)) > 2:
                    texts[language].append(text)
                    tokens += len(encode(text))
        return texts, tokens

    def random_model(self, name, shape, texts):
        """(folder, model, tokenizer) of random weights."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        tokenizer = train_tokenizer(texts, folder, adds_bos=True)
        return folder, make_tiny_model(shape, tokenizer, folder, seed=0), tokenizer

    def tiny_model(self):
        texts = reference.udhr_documents(reference_udhr(), LANGUAGES[0]).values()
        return self.random_model("tiny", TINY, list(texts))

    def swept_model(self):
        """(folder, model, text to ids) of what is swept."""
        if self.options.tiny:
            folder, model, tokenizer = self.tiny_model()
            model.set_attn_implementation("sdpa")
            return folder, model, lambda text: tokenizer.encode(text).ids
        folder = SMOLLM2
        model, reader = reference.load_gguf(reference.only_gguf(folder))
        model.set_attn_implementation("sdpa")
        tokenizer = reference.gguf_tokenizer(reader)
        bos = reference.field(reader, "tokenizer.ggml.bos_token_id")
        return folder, model, lambda text: [bos] + tokenizer.encode(text, add_special_tokens=False).ids

    # --- the sweep ---

    def sweep(self):
        folder, model, encode = self.swept_model()
        texts, tokens = self.udhr_texts(encode)
        path = self.folder / "texts.json"
        path.write_text(json.dumps(texts))
        documents = [encode(text) for language in sorted(texts) for text in texts[language]]
        layers = model.config.num_hidden_layers
        configurations = [None, set()] + [{layer} for layer in range(layers)]
        flags = ["--model", folder, "--texts", path, "--threads", self.options.threads,
                 "--quantizer", QUANTIZER]
        say(f"sweep: qsweep, {len(configurations)} configurations, {tokens} tokens")
        trie = self.ours("sweep", "sweep", *flags)
        say(f"    {trie['seconds']:.0f} s; naive")
        naive = self.ours("sweep_naive", "sweep", *flags, "--naive")
        say(f"    {naive['seconds']:.0f} s; the good notebook")
        good, good_seconds = notebooks.good_loop(model, copy.deepcopy(model), documents, BITS, GROUP)
        say(f"    {good_seconds:.0f} s; the loop of the earlier work")
        looped = configurations[:6] if self.options.quick else configurations
        loop, loop_seconds = notebooks.earlier_loop(model, documents, looped, BITS, GROUP)
        say(f"    {loop_seconds:.0f} s")
        self.runs["sweep_good"] = [{"seconds": good_seconds}]
        self.runs["sweep_loop"] = [{"seconds": loop_seconds}]
        ours = sums_of(trie, len(configurations))
        agree = {name: float(np.max(np.abs(np.array(other) / ours[:len(other)] - 1)))
                 for name, other in [("loop", loop), ("good", good)]}
        if self.options.quick:
            self.report("agrees with the earlier loop", "NLL within 1e-4", f"{agree['loop']:.1e}",
                        agree["loop"] <= 1e-4, f"{len(loop)} configurations")
        else:
            self.report_ratio("sweep against the earlier loop", 2.5, loop_seconds, trie, agree["loop"])
        self.report_ratio("sweep against a good notebook", 1.5, good_seconds, trie, agree["good"])
        self.report_naive("sweep against --naive", 1.3, trie, naive)
        self.report_rate(model.config, trie, len(configurations))
        self.report_memory(model.config, trie, tokens, len(configurations))
        self.sweep_bf16(model, documents, looped, flags, loop_seconds, loop)

    def sweep_bf16(self, model, documents, configurations, flags, loop_seconds, loop):
        """The sweep with products in bf16, against the loop in fp32 and in bf16."""
        say("sweep: qsweep in bf16")
        ours = self.ours("sweep_bf16", "sweep", *flags, "--compute", "bf16")
        say(f"    {ours['seconds']:.0f} s; the loop of the earlier work in bf16")
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        rounded = copy.deepcopy(model).to(torch.bfloat16)
        theirs, seconds = notebooks.earlier_loop(rounded, documents, configurations, BITS, GROUP,
                                                 weights)
        say(f"    {seconds:.0f} s")
        self.runs["sweep_loop_bf16"] = [{"seconds": seconds}]
        sums = sums_of(ours, model.config.num_hidden_layers + 2)[:len(loop)]
        difference, usual = (float(np.max(np.abs(np.array(bf16) / np.array(loop) - 1)))
                             for bf16 in (sums, theirs))
        ratio = loop_seconds / ours["seconds"]
        if not self.options.quick:
            self.report("sweep in bf16 against the earlier loop", ">= 5x",
                        f"{ratio:.2f}x ({loop_seconds:.0f} s / {ours['seconds']:.0f} s); "
                        f"{seconds / ours['seconds']:.2f}x the loop in bf16 ({seconds:.0f} s)",
                        ratio >= 5 and difference <= 2 * usual,
                        f"NLL of a document differs from fp32 by {difference:.1e} at most, in the "
                        f"loop by {usual:.1e}; twice that is asked")

    def report_ratio(self, figure, asked, seconds, ours, difference):
        ratio = seconds / ours["seconds"]
        self.report(figure, f">= {asked}x", f"{ratio:.2f}x ({seconds:.0f} s / {ours['seconds']:.0f} s)",
                    ratio >= asked and difference <= 1e-4,
                    f"NLL of a document differs by {difference:.1e} at most, 1e-4 asked")

    def report_rate(self, config, trie, configurations):
        """FLOP/s of the sweep over those of PyTorch's products of the same shapes, each at its best."""
        hidden, mlp = config.hidden_size, config.intermediate_size
        head_dim = config.head_dim or hidden // config.num_attention_heads
        query, key = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
        layer = [(hidden, query + 2 * key), (query, hidden), (hidden, mlp), (hidden, mlp), (mlp, hidden)]
        seconds = (trie["layer_evaluations"] * product_seconds(layer) +
                   configurations * product_seconds([(hidden, config.vocab_size)]))
        flops = 2 * (trie["layer_evaluations"] * sum(i * o for i, o in layer) +
                     configurations * hidden * config.vocab_size)
        rate, products = trie["flops"] / trie["seconds"] / 1e9, flops / seconds / 1e9
        self.runs["products"] = [{"gflops": products}]
        self.report("arithmetic rate", ">= 80% of PyTorch's products",
                    f"{rate:.0f} of {products:.0f} GFLOP/s, {rate / products:.0%}",
                    rate >= 0.8 * products,
                    "FLOPs of the trie without attention / the time of the whole sweep; the engine's "
                    f"own product, in the cache: {trie['measured_gflops']:.0f} GFLOP/s")

    def report_naive(self, figure, asked, trie, naive):
        ratio = naive["seconds"] / trie["seconds"]
        same = naive["rows"] == trie["rows"]
        counted = trie["layer_evaluations"] == trie["layer_evaluations_planned"]
        self.report(figure, f">= {asked}x",
                    f"{ratio:.2f}x ({naive['seconds']:.0f} s / {trie['seconds']:.0f} s), "
                    f"{naive['layer_evaluations']} / {trie['layer_evaluations']} layer evaluations, "
                    f"rows {'equal to the last bit' if same else 'DIFFER'}",
                    ratio >= asked and same and counted, "")

    def report_memory(self, config, trie, tokens, configurations):
        head = config.hidden_size
        width = config.head_dim or head // config.num_attention_heads
        layer = (head * width * (2 * config.num_attention_heads + 2 * config.num_key_value_heads)
                 + 3 * head * config.intermediate_size)
        bound = FIXED_MEMORY + 4 * (
            3 * layer + configurations * tokens * head + config.vocab_size * head)
        peak = trie["anonymous_peak_bytes"]
        self.report("anonymous memory of the sweep", f"<= {bound / 2**20:.0f} MiB",
                    f"{peak / 2**20:.0f} MiB", peak <= bound,
                    "3 layers, the states of all configurations, the head, 200 MB; logits not counted")

    def head_light(self):
        """A model whose blocks cost much more than its head: what sharing them gains at most."""
        articles = 2 if self.options.quick else 12
        shape = TINY if self.options.tiny else HEAD_LIGHT
        texts = {l: list(reference.udhr_documents(reference_udhr(), l).values())[:articles]
                 for l in LANGUAGES[:3]}
        folder, _, _ = self.random_model("head-light", shape, sum(texts.values(), []))
        path = self.folder / "head-light.json"
        path.write_text(json.dumps(texts))
        flags = ["--model", folder, "--texts", path, "--threads", self.options.threads,
                 "--quantizer", QUANTIZER]
        say(f"head-light: a random model of {shape['num_hidden_layers']} layers")
        self.report_naive("head-light sweep against --naive", 1.7,
                          self.ours("head_light", "sweep", *flags),
                          self.ours("head_light_naive", "sweep", *flags, "--naive"))

    # --- quantizers ---

    def quantize(self, name, quantizer, weights, hessian=None, threads=1, rounds=5):
        """(result, weights as qsweep writes them)."""
        rows, columns = weights.shape
        paths = {part: self.folder / part for part in ("weights", "hessian", "out")}
        weights.numpy().tofile(paths["weights"])
        flags = ["--quantizer", quantizer, "--weights", paths["weights"], "--rows", rows,
                 "--columns", columns, "--out", paths["out"], "--threads", threads,
                 "--rounds", rounds]
        if hessian is not None:
            hessian.numpy().tofile(paths["hessian"])
            flags += ["--hessian", paths["hessian"], "--codes", self.folder / "codes"]
        result = self.ours(name, "quantize", *flags)
        out = np.fromfile(paths["out"], dtype=np.float32).reshape(rows, columns)
        return result, torch.from_numpy(out)

    def kernels(self):
        torch.manual_seed(1)
        torch.set_num_threads(1)
        size = 256 if self.options.tiny else 4096
        weights = 0.02 * torch.randn(size, size)
        for quantizer, eager in [(QUANTIZER, lambda: notebooks.rtn(weights, BITS, GROUP)),
                                 ("rtn:bits=8,gran=channel", lambda: notebooks.rtn(weights, 8, size)),
                                 ("nf4:group=64", lambda: notebooks.nf4(weights, 64))]:
            say(f"kernels: {quantizer}")
            result, out = self.quantize("kernels", quantizer, weights)
            share = result["copy_seconds"] / result["seconds"]
            equal = int((out == eager()).sum())
            gb = result["bytes"] / 1e9
            self.report(f"{quantizer} over memcpy, one core", ">= 70%",
                        f"{share:.0%} ({gb / result['seconds']:.1f} / "
                        f"{gb / result['copy_seconds']:.1f} GB/s), {equal:,} of {out.numel():,} weights "
                        f"equal PyTorch's", share >= 0.7 and equal == out.numel(),
                        f"{size * size >> 18} MiB of weights, the best of five")
        say("kernels: hqq")
        weights = weights[:size // 4].contiguous()
        result, out = self.quantize("kernels", f"hqq:bits={BITS},group={GROUP}", weights, rounds=3)
        eager, seconds = best(3, lambda: notebooks.hqq(weights, BITS, GROUP))
        parts = weights.view(-1, GROUP)
        step = (parts.amax(1, keepdim=True) - parts.amin(1, keepdim=True)) / (2**BITS - 1)
        apart = ((out - eager).view_as(parts).abs() / step)
        # Zero points are no integers and come of sums in another order; a code less is a whole step.
        codes = int((apart < 0.5).sum())
        moved = apart[apart < 0.5].max().item()
        ratio = seconds / result["seconds"]
        self.report("HQQ against eager PyTorch, one core", ">= 5x",
                    f"{ratio:.1f}x ({seconds:.2f} s / {result['seconds']:.2f} s), {codes:,} of "
                    f"{out.numel():,} codes equal", ratio >= 5 and codes == out.numel() and moved < 1e-3,
                    f"{int((out == eager).sum()):,} values equal to the last bit, those of equal codes within "
                    f"{moved:.1e} of a step")
        torch.set_num_threads(self.options.threads)

    def gptq(self):
        quantizer = f"gptq:bits={BITS},group=128,sym=0"
        for rows, columns in [(64, 256)] if self.options.tiny else [(768, 3072), (1024, 4096)]:
            say(f"gptq: {rows} x {columns}")
            torch.manual_seed(rows)
            weights = 0.02 * torch.randn(rows, columns)
            inputs = torch.randn(2 * columns, 64) @ torch.randn(64, columns)
            inputs += 0.5 * torch.randn(2 * columns, columns)
            hessian = 2 / len(inputs) * inputs.T @ inputs
            hessian = (hessian + hessian.T) / 2
            result, _ = self.quantize("gptq", quantizer, weights, hessian,
                                      threads=self.options.threads, rounds=3)
            _, seconds = best(2, lambda: notebooks.gptq(weights, hessian, BITS, 128))
            equal, parted, tie = self.compare_gptq(weights, hessian, rows, columns)
            ratio = seconds / result["seconds"]
            self.report(f"GPTQ {rows} x {columns} against eager PyTorch", ">= 5x",
                        f"{ratio:.1f}x ({seconds:.2f} s / {result['seconds']:.2f} s), "
                        f"{equal:,} of {rows * columns:,} codes equal", ratio >= 5 and tie < NEAR_TIE,
                        f"{parted} rows part, each first within {tie:.1e} steps of a tie; "
                        "the Hessian is there; inverse, codes and weights are timed")

    def compare_gptq(self, weights, hessian, rows, columns):
        """How many codes are equal, how many rows are not, and how far from a tie one of those first parts.

        Two programs in fp32 sum in other orders. A weight, or a zero point, that comes to lie next to the
        middle of two integers is rounded up by one and down by the other, and all that follows in its row
        makes up for another error.
        """
        trace = []
        notebooks.gptq(weights, hessian, BITS, 128, trace=trace)
        theirs, *rounded = (torch.stack(columns, 1).double().numpy() for columns in zip(*trace))
        ties = np.minimum(*(np.abs(x - np.floor(x) - 0.5) for x in rounded))
        ours = np.fromfile(self.folder / "codes", dtype=np.uint8).reshape(rows, columns)
        differs = ours != theirs
        parted = np.flatnonzero(differs.any(1))
        first = ties[parted, differs[parted].argmax(1)]
        return int((~differs).sum()), len(parted), float(first.max(initial=0))

    # --- two workers ---

    def workers(self):
        rows, seconds = {}, {}
        for count in (1, 2):
            say(f"workers: {count} of one thread")
            seconds[count], rows[count] = self.cluster_sweep(count)
        same = rows[1] == rows[2]
        ratio = seconds[1] / seconds[2]
        self.runs["workers"] = [{"workers": n, "seconds": s} for n, s in seconds.items()]
        self.report("two workers of one thread against one", ">= 1.85x",
                    f"{ratio:.2f}x ({seconds[1]:.0f} s / {seconds[2]:.0f} s), {len(rows[1])} rows "
                    f"{'equal to the last bit' if same else 'DIFFER'}",
                    ratio >= 1.85 and same and len(rows[1]) > 0, "from submit to the last row, by qctl")

    def cluster_sweep(self, count):
        """Seconds from submit to the job's end, and its measurements, sorted."""
        folder = self.folder / f"cluster{count}"
        model = self.tiny_model()[0] if self.options.tiny else SMOLLM2
        environment = os.environ | {
            "PATH": f"{self.options.bin}:{os.environ['PATH']}", "QCTL_DIR": str(folder)}

        def qctl(*arguments):
            return subprocess.run(["qctl", *map(str, arguments)], env=environment, check=True,
                                  stdout=subprocess.PIPE, text=True).stdout

        samples = 1 if self.options.quick else 4
        qctl("up", "--dir", folder, "--workers", count, "--threads", 1)
        try:
            qctl("corpora", "add", "udhr", reference_udhr(), "--languages", ",".join(LANGUAGES))
            began = time.perf_counter()
            qctl("submit", "layer-sweep", "--model", model, "--corpus", "udhr",
                 "--languages", ",".join(LANGUAGES), "--reference", "eng", "--quantizer",
                 QUANTIZER, "--eval", "aligned", "--samples", samples, "--name", "bench", "--wait")
            seconds = time.perf_counter() - began
            text = qctl("export", "bench", "--format", "csv")
        finally:
            qctl("down", "--dir", folder)
        keys = ("language", "lang", "document", "document_id", "layer_set", "quantizer", "nll_sum",
                "nll_fp_sum", "kl_sum", "top1", "tokens")
        table = [tuple(row[key] for key in keys if key in row) for row in csv.DictReader(
            text.splitlines())]
        return seconds, sorted(table)

    def run_all(self):
        steps = {"sweep": self.sweep, "head-light": self.head_light, "kernels": self.kernels,
                 "gptq": self.gptq, "workers": self.workers}
        for figure in self.options.only or FIGURES:
            steps[figure]()


def reference_udhr():
    return ROOT / "build/data/udhr"


def sums_of(result, configurations):
    """[configuration][document] NLL sums; documents by language, then text."""
    order = sorted({(row["language"], row["text"]) for row in result["rows"]})
    place = {document: i for i, document in enumerate(order)}
    sums = np.zeros((configurations, len(order)))
    for row in result["rows"]:
        sums[row["configuration"], place[row["language"], row["text"]]] = row["nll_sum"]
    return sums


def best(rounds, call):
    """(what it returns, the fewest seconds)."""
    fewest, value = float("inf"), None
    for _ in range(rounds):
        began = time.perf_counter()
        value = call()
        fewest = min(fewest, time.perf_counter() - began)
    return value, fewest


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench.sh engine")
    parser.add_argument("--quick", action="store_true", help="few tokens: whether it runs, no figure")
    parser.add_argument("--tiny", action="store_true",
                        help="--quick with random models and small matrices, in seconds")
    parser.add_argument("--only", type=lambda text: text.split(","),
                        help="of " + ",".join(FIGURES) + "; default: all")
    parser.add_argument("--tokens", type=int, default=None, help="of the sweep; default 7000")
    parser.add_argument("--threads", type=int, default=2, help="of both sides")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/bench/engine",
                        help="for what is written meanwhile; emptied")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/bench")
    options = parser.parse_args(arguments)
    unknown = set(options.only or ()) - set(FIGURES)
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))} (there are {', '.join(FIGURES)})")
    options.quick |= options.tiny
    options.tokens = options.tokens or (400 if options.quick else 7000)
    return options


def main():
    bench = Bench(parse(sys.argv[1:]))
    bench.run_all()
    bench.table()
    bench.save(bench.options.out, bench.options.quick)


if __name__ == "__main__":
    main()
