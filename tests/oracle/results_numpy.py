#!/usr/bin/env python3
"""Recomputes every number of `qctl results JOB -o json` from `qctl export JOB --format csv`.

    results_numpy.py ROWS.csv RESULTS.json [TOLERANCE]

Takes from the results only what rows do not hold: which configurations form a panel, which one is
the baseline, `none`, a single layer, the vocabulary's size, the noise floor, the seed. Formulas: docs/metrics.md,
written down here a second time, without the moment sums that the product computes them by.
Prints the largest difference; exits 1 when it is above TOLERANCE (relative, 1e-6) or when a
status, flag, verdict, rank or group differs.
"""
import csv
import hashlib
import json
import sys
import traceback

import numpy as np

FIELDS = ("nll_sum nll_fp_sum unigram_nll_sum tokens bytes bytes_scored chars kl_sum top1 "
          "nonfinite").split()
KEYS = "model configuration evaluation language document document_digest status".split()
LN2, Z = np.log(2), 1.959963984540054 + 0.8416212335729143


def resample(n, count, seed):
    """[count + 1, n] weights, the data themselves first; whether each resample is usable."""
    k = np.arange(1, count * n + 1, dtype=np.uint64)
    z = np.uint64(seed) + k * np.uint64(0x9e3779b97f4a7c15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
    z ^= z >> np.uint64(31)
    low = (z & np.uint64(0xffffffff)) * np.uint64(n) >> np.uint64(32)
    unit = ((z >> np.uint64(32)) * np.uint64(n) + low) >> np.uint64(32)
    flat = np.repeat(np.arange(count), n) * n + unit.astype(int)
    weights = np.bincount(flat, minlength=count * n).reshape(count, n)
    return np.vstack([np.ones(n), weights]), (weights > 0).sum(1) >= 2


def near(a, b):
    """Relative difference, with 1e-6 of whatever unit it is as the smallest scale."""
    return abs(a - b) / max(abs(a), abs(b), 1e-6)


class Panel:
    def __init__(self, panel, results, rows):
        self.p, self.r, self.worst = panel, results, (0.0, "")
        self.languages = [l["language"] for l in panel["languages"]]
        self.ref = results["reference"] if results["reference"] in self.languages else None
        self.rows = {}
        for row in rows:
            if row["model"] == panel["model_digest"] and row["evaluation"] == panel["evaluation"]:
                key = row["configuration"], row["language"], row["document"]
                self.rows[key] = row
        self.configs = {c["configuration"]: c for c in panel["configurations"]}
        self.draws = dict(self.rows)  # each replicate's own
        self.average_replicates()
        self.choose_units()
        self.weights, self.usable = resample(max(1, len(self.units)), results["resamples"],
                                             int(results["seed"]))
        self.noise = 3 * (panel["noise_floor"] or 0)  # nats per token
        self.none = next((c for c, v in self.configs.items() if v["unprotected"]), None)

    def average_replicates(self):
        """One row of means in place of the rows of all replicates of a document."""
        for c, config in self.configs.items():
            draws = config["replicates"]
            if len(draws) < 2:
                continue
            places = {(l, u) for d, l, u in self.draws if d in draws}
            for d in draws:
                for place in places:
                    self.rows.pop((d, *place), None)
            for place in places:
                own = [self.draws.get((d, *place)) for d in draws]
                if None in own:
                    continue
                mean = next((dict(r) for r in own if r["status"] != "ok"), None)
                if mean is None:
                    mean = dict(own[0], nonfinite=str(sum(int(r["nonfinite"]) for r in own)))
                    for f in ("nll_sum", "nll_fp_sum", "kl_sum", "top1"):
                        values = [r[f] for r in own]
                        mean[f] = repr(float(np.mean([float(v) for v in values]))) if all(
                            values) else ""
                self.rows[(c, *place)] = mean

    # What is used.
    def ok(self, c, l, u):
        row = self.rows.get((c, l, u))
        return row is not None and row["status"] == "ok"

    def choose_units(self):
        seen = sorted({u for c, l, u in self.rows if c in self.configs}, key=str.encode)
        count = {c: sum(self.ok(c, l, u) for l in self.languages for u in seen)
                 for c in self.configs}
        self.anchor = max(self.configs, key=lambda c: (
            count[c] > 0, self.configs[c]["unprotected"], not self.configs[c]["baseline"],
            count[c]))
        self.present = [l for l in self.languages if any(self.ok(self.anchor, l, u) for u in seen)]
        self.units = [u for u in seen if all(self.ok(self.anchor, l, u) for l in self.present)]
        self.dropped = len(seen) - len(self.units)

    def column(self, c, l, field):
        return np.array([float(self.rows[c, l, u][field]) for u in self.units])

    def x(self, c, l):
        return self.column(c, l, "nll_sum") - self.column(c, l, "nll_fp_sum")

    def per_token(self, c, l):
        return self.x(c, l).sum() / self.column(self.anchor, l, "tokens").sum()

    def fp_per_token(self, l):
        return (self.column(self.anchor, l, "nll_fp_sum").sum() /
                self.column(self.anchor, l, "tokens").sum())

    def cell_status(self, c, l):
        if l not in self.present or not self.units:
            return "no_rows"
        if not all(self.ok(c, l, u) for u in self.units):
            return "pending"
        return "nonfinite" if self.column(c, l, "nonfinite").sum() else "ok"

    # Estimates: (values, influences) of [resamples + 1] each.
    def ratio(self, a, b):
        total = self.weights @ b
        value = self.weights @ a / total
        return value, (a - value[:, None] * b) / total[:, None], np.abs(value)

    @staticmethod
    def less(first, second):
        return first[0] - second[0], first[1] - second[1], first[2] + second[2]

    def error(self, influence):
        n = influence.shape[1]
        return np.sqrt(n / max(1, n - 1) * (self.weights * influence ** 2).sum(1))

    def interval(self, estimate, constant=0.0, sign=1.0):
        value, influence, scale = estimate
        value, error = constant + sign * value, self.error(influence)
        out = dict(value=value[0], low=None, high=None, stderr=None, status="ok")
        n = len(self.units)
        flat = not error[0] > 1e-7 * scale[0]
        if n >= 2:
            out["stderr"] = 0.0 if flat else error[0]
        if n < 5:
            return dict(out, status="few_units")
        if flat:
            return dict(out, low=value[0], high=value[0])
        with np.errstate(all="ignore"):
            t = ((value[1:] - value[0]) / error[1:])[self.usable]
        t = np.sort(t[np.isfinite(t)])
        k = max(1, int(np.floor((len(t) + 1) * ((1 - self.r["confidence"]) / 2))))
        return dict(out, low=value[0] - t[len(t) - k] * error[0], high=value[0] - t[k - 1] * error[0])

    # Comparison.
    def same(self, what, got, want):
        if isinstance(want, dict) and "status" in want:
            for key in ("value", "low", "high", "stderr", "status"):
                self.same(f"{what}.{key}", got[key], want.get(key))
        elif isinstance(want, (int, float, np.floating)) and isinstance(got, (int, float)):
            self.worst = max(self.worst, (near(float(got), float(want)), what))
        elif got != want:
            self.worst = max(self.worst, (float("inf"), f"{what}: {got!r}, recomputed {want!r}"))

    def absent(self, status):
        return dict(status=status)


def finite(value):
    return value if value is not None and np.isfinite(value) else None


def side(e):
    return 0 if e.get("low") is None else int(e["low"] > 0) - int(e["high"] < 0)


def languages(p):
    """Totals and flags; fills p.state: language -> why it has no numbers, or ok."""
    p.state, p.n_eff, p.short = {}, {}, {}
    baseline = next((c for c, v in p.configs.items() if v["baseline"]), None)
    for got in p.p["languages"]:
        l = got["language"]
        if l not in p.present or not p.units:
            p.state[l] = "no_rows"
            continue
        tokens, fp, unigram = (p.column(p.anchor, l, f)
                               for f in ("tokens", "nll_fp_sum", "unigram_nll_sum"))
        flags, state, n = [], "ok", tokens.sum()
        p.n_eff[l], p.short[l] = n ** 2 / (tokens ** 2).sum(), bool(n < 200)
        flags += ["short"] * p.short[l]
        if unigram.sum() > 0 and fp.sum() >= unigram.sum() - 0.25 * n:
            flags, state = flags + ["unlearned"], "unlearned"
        if baseline and p.cell_status(baseline, l) == "nonfinite":
            flags, state = flags + ["nonfinite"], "nonfinite"
        p.state[l] = state
        for key, want in dict(
                status=state, flags=sorted(flags), tokens=n, n_eff=p.n_eff[l],
                bytes=p.column(p.anchor, l, "bytes").sum(), nll_fp_per_token=fp.sum() / n,
                nll_unigram_per_token=unigram.sum() / n, ppl_fp=np.exp(fp.sum() / n)).items():
            p.same(f"{l}.{key}", got[key], want)
    p.learned = [l for l in p.languages if p.state[l] == "ok"]
    p.exploratory = min([p.n_eff[l] for l in p.learned], default=0) < 12
    p.same("n_eff", p.p["n_eff"], min([p.n_eff[l] for l in p.learned], default=0))
    p.scored = p.p["evaluation"].split("@")[0] == "aligned" and all(
        (p.column(p.anchor, l, "bytes") == p.column(p.anchor, l, "bytes_scored")).all()
        for l in p.present)


def denominators(p, l):
    return dict(delta_nll=p.column(p.anchor, l, "tokens"),
                bits_per_unit=np.full(len(p.units), LN2),
                relative_loss=p.column(p.anchor, l, "nll_fp_sum"),
                bits_per_byte=LN2 * p.column(p.anchor, l, "bytes_scored"))


def status_of(p, c, l):
    if p.configs[c]["baseline"]:
        return "baseline"
    return "nonfinite" if p.state[l] == "nonfinite" else p.cell_status(c, l)


def losses_and_gaps(p, c, l):
    out, status = {}, status_of(p, c, l)
    gap = status
    if status == "ok":
        gap = ("reference" if l == p.ref else p.state[l] if p.state[l] != "ok"
               else "reference_missing" if p.ref is None
               else "reference_unlearned" if p.state[p.ref] == "unlearned"
               else "ok" if status_of(p, c, p.ref) == "ok" else "reference_missing")
    for name in ("delta_nll", "bits_per_unit", "relative_loss", "bits_per_byte"):
        scored = p.scored or name == "delta_nll"
        own = status if status != "ok" or scored else "undefined"
        between = gap if gap != "ok" or scored else "undefined"
        loss = None
        if own == "ok":
            loss = p.ratio(p.x(c, l), denominators(p, l)[name])
        out[name] = p.interval(loss) if loss else p.absent(own)
        anchored = between
        out["gap_" + name] = p.absent(between)
        if between == "ok":
            other = denominators(p, p.ref)[name]
            reference = p.ratio(p.x(c, p.ref), other)
            out["gap_" + name] = p.interval(p.less(loss, reference))
            if p.none is None or status_of(p, p.none, p.ref) != "ok":
                anchored = "undefined"
            else:
                none = p.ratio(p.x(p.none, p.ref), other)
                first = reference[0] <= none[0]
                least = tuple(np.where(first if a.ndim == 1 else first[:, None], a, b)
                              for a, b in zip(reference, none))
                out["anchored_gap_" + name] = p.interval(p.less(loss, least))
        if anchored != "ok":
            out["anchored_gap_" + name] = p.absent(anchored)
    return out


def recovery_status(p, c, l):
    status = status_of(p, c, l)
    if status != "ok":
        return status
    if c == p.none:
        return "anchor"
    return (p.state[l] if p.state[l] != "ok" else "ok" if l in p.recoverable else
            "below_noise" if l in p.below_noise else "undefined")


def recoveries(p, c, l):
    status, names = recovery_status(p, c, l), ("recovery", "recovery_contrast", "interaction")
    if status != "ok":
        return {name: p.absent(status) for name in names}
    none = p.x(p.none, l)
    lost = p.ratio(p.x(c, l), none)
    out = dict(recovery=p.interval(lost, 1, -1), recovery_contrast=p.absent("undefined"))
    if p.singles:
        average = p.ratio(np.mean([p.x(s, l) for s in p.singles], 0), none)
        out["recovery_contrast"] = p.interval(p.less(lost, average), 0, -1)
    of_ref = "reference_missing" if p.ref is None else recovery_status(p, c, p.ref)
    if l == p.ref:
        out["interaction"] = p.absent("reference")
    elif of_ref == "ok":
        other = p.ratio(p.x(c, p.ref), p.x(p.none, p.ref))
        out["interaction"] = p.interval(p.less(lost, other), 0, -1)
    else:
        out["interaction"] = p.absent("reference_unlearned" if of_ref == "unlearned" else
                                      of_ref if of_ref in ("undefined", "below_noise") else
                                      "reference_missing")
    return out


def plain(p, c, l):
    """KL, flags and the earlier work's columns of a cell that has all its rows."""
    if p.cell_status(c, l) not in ("ok", "nonfinite"):
        return None
    sums = {f: sum(float(p.rows[c, l, u][f]) for u in p.units) if all(
        p.rows[c, l, u][f] for u in p.units) else None for f in FIELDS}
    n, nll, flags = sums["tokens"], sums["nll_sum"], ["short"] * p.short[l]
    flags += ["nonfinite"] * (p.cell_status(c, l) == "nonfinite")
    if not p.configs[c]["baseline"] and (
            (sums["unigram_nll_sum"] > 0 and nll >= sums["unigram_nll_sum"])
            or nll / n >= np.log(p.p["vocabulary_size"]) - 0.5
            or (sums["top1"] is not None and sums["top1"] < 0.3 * n)):
        flags.append("collapsed")
    comparable = p.cell_status(c, l) == "ok" and p.state[l] == "ok"
    delta = (nll - sums["nll_fp_sum"]) / n if comparable else None
    with np.errstate(over="ignore"):
        return dict(nll_per_token=nll / n, ppl=finite(np.exp(nll / n)), flags=flags, delta=delta,
                    degradation_percent=finite(100 * np.expm1(delta)) if comparable else None,
                    kl_per_token=sums["kl_sum"] / n if sums["kl_sum"] is not None else None,
                    top1_agreement=sums["top1"] / n if sums["top1"] is not None else None)


def disparity(delta, ref, rule):
    with np.errstate(over="ignore"):
        if ref <= 0:
            return {"one": 100 * np.expm1(delta), "inf": None, "zero": 0.0}[rule]
        if delta <= 0:
            return np.expm1(delta) / np.expm1(ref)
        return np.exp(delta - ref) * (np.expm1(-delta) / np.expm1(-ref))


def configuration(p, c):
    got, cells, flags, disparities, kl = p.configs[c], {}, set(), [], []
    rho = {}
    for cell in got["cells"]:
        l = cell["language"]
        want = dict(losses_and_gaps(p, c, l), **recoveries(p, c, l))
        for extra in ("delta_nll", "bits_per_byte"):
            del want["anchored_gap_" + extra]
        numbers = plain(p, c, l)
        own = list(numbers["flags"]) if numbers else []
        for name in ("nll_per_token", "ppl", "degradation_percent", "kl_per_token",
                     "top1_agreement"):
            want[name] = numbers[name] if numbers else None
        want["disparity"] = None
        base = plain(p, c, p.ref) if p.ref and p.ref in p.present else None
        comparable = all(n and n["delta"] is not None for n in (numbers, base))
        if comparable and l != p.ref and not got["baseline"]:
            ratio = disparity(numbers["delta"], base["delta"], p.r["ref_rule"])
            own += ["ref_nonpos"] * bool(base["delta"] <= 0)
            want["disparity"] = finite(ratio)
            disparities += [ratio] * (finite(ratio) is not None)
        if want["delta_nll"].get("value") is not None:
            own += ["below_noise"] * bool(abs(want["delta_nll"]["value"]) < p.noise)
        bits, relative = want["gap_bits_per_unit"], want["gap_relative_loss"]
        want["verdict"] = ""
        if bits.get("low") is not None and relative.get("low") is not None:
            a, b = side(bits), side(relative)
            own += ["unit_conflict"] * (a != b)
            floor = p.noise / p.fp_per_token(l) + p.noise / p.fp_per_token(p.ref)
            want["verdict"] = ("exploratory" if p.exploratory else "not_resolved"
                               if abs(relative["value"]) < floor else "unit_conflict" if a != b else
                               {1: "worse", -1: "better", 0: "not_resolved"}[a])
        want["flags"] = sorted(own)
        if p.state[l] == "ok":
            flags |= set(own)
            kl.append(want["kl_per_token"])
        rho[l], cells[l] = want["recovery"], want
        for name, value in want.items():
            p.same(f"{got['layer_set']}/{l}.{name}", cell[name], value)
    worst = min((l for l in p.recoverable if rho[l].get("value") is not None),
                key=lambda l: rho[l]["value"], default=None)
    bad = next((l for l in p.recoverable if rho[l].get("value") is None), None)
    for name, value in dict(
            flags=sorted(flags | {"below_noise"} if c in p.untold_by_noise else flags),
            worst_language="" if bad or not worst else worst,
            worst_recovery=p.absent(rho[bad]["status"]) if bad else rho[worst] if worst else
            p.absent("undefined"),
            mean_kl=np.mean(kl) if kl and None not in kl else None,
            average_disparity=np.mean(disparities) if disparities else None,
            max_disparity=max(disparities) if disparities else None).items():
        p.same(f"{got['layer_set']}.{name}", got[name], value)
    return cells


def more(p, effect, error, critical=1.959963984540054):
    need = np.ceil(len(p.units) * ((critical + Z - 1.959963984540054) * error / effect) ** 2)
    return max(0.0, need - len(p.units))


def power(p, cells):
    for got in p.p["languages"]:
        bits = cells[got["language"]]["gap_bits_per_unit"]
        relative = cells[got["language"]]["gap_relative_loss"]
        want, detectable = None, None
        if bits.get("stderr") is not None and relative.get("stderr") is not None:
            detectable = Z * bits["stderr"] or None
            if side(bits) and side(bits) == side(relative):
                want = 0
            elif bits["value"] * relative["value"] > 0:
                want = max(more(p, e["value"], e["stderr"]) for e in (bits, relative))
        p.same(got["language"] + ".units_more", got["units_more"], want)
        p.same(got["language"] + ".minimum_detectable", got["minimum_detectable"], detectable)


def ranks(p):
    got = {s: p.configs[s] for s in p.singles}
    if len(p.units) < 5 or not got:
        return
    lost = {s: [p.ratio(p.x(s, l), p.x(p.none, l)) for l in p.recoverable] for s in got}
    worst = {}
    for s, ratios in lost.items():
        pick = np.argmax([r[0] for r in ratios], 0)
        each = np.arange(len(pick))
        worst[s] = (1 - np.array([r[0] for r in ratios])[pick, each],
                    -np.array([r[1] for r in ratios])[pick, each])
    average = tuple(np.mean([w[i] for w in worst.values()], 0) for i in (0, 1))

    def family(members):
        values, statistics = {}, []
        for key, (first, second) in members.items():
            value = first[0] - second[0]
            variance = p.error(first[1] - second[1]) ** 2
            error = np.where(variance > 1e-14, np.sqrt(variance), 0)
            values[key] = value[0], error[0]
            with np.errstate(all="ignore"):
                t = np.abs(value[1:] - value[0]) / error[1:]
            statistics.append(np.where(np.isfinite(t), t, 0)[p.usable])
        largest = np.sort(np.max(statistics, 0))
        k = min(len(largest), int(np.ceil((len(largest) + 1) * p.r["confidence"])))
        return values, largest[k - 1]

    contrast, critical = family({s: (worst[s], average) for s in got})
    order = sorted(got, key=lambda s: -worst[s][0][0])
    pairs, pair_critical = family({(a, b): (worst[a], worst[b]) for i, a in enumerate(order)
                                   for b in order[i + 1:]})
    noise = max(p.noise / p.per_token(p.none, l) for l in p.recoverable)
    apart = {key: abs(v) >= noise and abs(v) > 1e-7 + pair_critical * e
             for key, (v, e) in pairs.items()}
    standing, group, groups, untold = {}, {}, 0, []
    for i, s in enumerate(order):
        value, error = contrast[s]
        low, high = value - critical * error, value + critical * error
        p.untold_by_noise |= {s} if abs(value) < noise else set()
        standing[s] = ("not_told" if abs(value) < noise else "above" if low > 1e-7 else
                       "below" if high < -1e-7 else "not_told")
        p.same(f"{got[s]['layer_set']}.average_contrast", got[s]["average_contrast"], dict(
            value=value, low=low, high=high, stderr=error, status="ok"))
    for i, s in enumerate(order):
        kind = [t for t in order if standing[t] == standing[s]]
        at = kind.index(s)
        cut = standing[s] != "not_told" and all(apart[a, b] for a in kind[:at] for b in kind[at:])
        if at == 0 or cut:
            groups += 1
            group[s] = groups
        else:
            group[s] = group[kind[at - 1]]
        if standing[s] == "not_told":
            untold.append(more(p, *contrast[s], critical))
        for name, value in dict(rank=i + 1, group=group[s], standing=standing[s]).items():
            if got[s][name] != value:
                p.same(f"{got[s]['layer_set']}.{name}", str(got[s][name]), str(value))
    resolved = 0
    while resolved < len(order) and all(apart[order[resolved], b] for b in order[resolved + 1:]):
        resolved += 1
    p.same("resolved_ranks", str(p.p["resolved_ranks"]), str(resolved))
    p.same("units_more_layers", p.p["units_more_layers"],
           sorted(untold)[(len(untold) - 1) // 2] if untold else None)


def spread(values):
    if len(values) < 2:
        return None
    return dict(mean=np.mean(values), standard_deviation=np.std(values, ddof=1),
                replicates=len(values))


def spreads(p, cells):
    """How the draws differ, each taken by itself."""
    def lost(c, r, l):
        own = [p.draws[p.configs[c]["replicates"][r], l, u] for u in p.units]
        return np.array([sum(float(row["nll_sum"]) - float(row["nll_fp_sum"]) for row in own),
                         sum(float(row["tokens"]) for row in own)])

    def same(what, got, want):
        p.same(what, got is None, want is None)
        for key in want or {}:
            p.same(f"{what}.{key}", got[key], want[key])

    worst, count = {}, len(p.p["replicates"])
    for c, config in p.configs.items():
        draws = range(len(config["replicates"])) if len(config["replicates"]) > 1 else range(0)
        rho = {}
        for cell in config["cells"]:
            l, losses = cell["language"], []
            if cells[c][l]["delta_nll"].get("value") is not None:
                losses = [lost(c, r, l)[0] / lost(c, r, l)[1] for r in draws]
            if cells[c][l]["recovery"].get("value") is not None:
                rho[l] = [1 - lost(c, r, l)[0] / lost(p.none, r, l)[0] for r in draws]
            where = f"{config['layer_set']}/{l}"
            same(where + ".delta_nll_spread", cell["delta_nll_spread"], spread(losses))
            same(where + ".recovery_spread", cell["recovery_spread"], spread(rho.get(l, [])))
        least = []
        if p.recoverable and all(l in rho for l in p.recoverable):
            least = [min(rho[l][r] for l in p.recoverable) for r in draws]
        same(config["layer_set"] + ".worst_recovery_spread", config["worst_recovery_spread"],
             spread(least))
        if config["rank"] and len(least) == count > 1:
            worst[c] = np.array(least)
    for c, config in p.configs.items():
        want = spread(worst[c] - np.mean(list(worst.values()), 0)) if c in worst else None
        same(config["layer_set"] + ".average_contrast_spread", config["average_contrast_spread"],
             want)


def check(panel, results, rows):
    p = Panel(panel, results, rows)
    p.same("units", panel["units"], len(p.units))
    p.same("units_dropped", panel["units_dropped"], p.dropped)
    languages(p)
    p.recoverable, p.below_noise, p.singles = [], [], []
    if p.none and p.units:
        none = {l: losses_and_gaps(p, p.none, l)["delta_nll"] for l in p.learned}
        lost = [l for l in p.learned if none[l].get("low") is not None and
                none[l]["low"] > 1e-5 * p.fp_per_token(l)]
        p.recoverable = [l for l in lost if none[l]["low"] > p.noise]
        p.below_noise = [l for l in lost if l not in p.recoverable]
        p.singles = [c for c, v in p.configs.items() if v["layer"] is not None and p.recoverable
                     and all(status_of(p, c, l) == "ok" for l in p.recoverable)]
        p.singles = p.singles if len(p.singles) >= 2 else []
    p.untold_by_noise = set()
    ranks(p)
    cells = {c: configuration(p, c) for c in p.configs}
    if p.none:
        power(p, cells[p.none])
    spreads(p, cells)
    return p.worst


def data_digest(rows):
    lines = {"\t".join(row[f] for f in KEYS + FIELDS) + "\n" for row in rows}
    return hashlib.sha256(b"".join(sorted(line.encode() for line in lines))).hexdigest()


def main(arguments):
    with open(arguments[0], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with open(arguments[1], encoding="utf-8") as file:
        results = json.load(file)
    tolerance = float(arguments[2]) if len(arguments) > 2 else 1e-6
    worst = max((check(panel, results, rows) for panel in results["items"]), default=(0.0, ""))
    digest = data_digest(rows)
    same = digest == results["data_digest"] and len(rows) == results["rows"]
    print(f"{len(results['items'])} panels, {len(rows)} rows: largest relative difference "
          f"{worst[0]:.3g} at {worst[1] or '-'}; data digest {'equal' if same else 'DIFFERS'}")
    return 0 if worst[0] <= tolerance and same else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, KeyError, ValueError, TypeError, IndexError):
        traceback.print_exc()
        sys.exit(2)  # not an answer
