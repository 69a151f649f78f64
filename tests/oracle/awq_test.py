"""Codes and column scales that `qengine score` makes by AWQ against the steps of the paper on the same model.

    build/venv/bin/python tests/oracle/awq_test.py BIN_DIR

The blocks of transformers are run in fp64 with each candidate, as the authors' program inspects them; the steps are
those of tests/golden/make_awq.py. qengine's results are read from its cache, whose format is in
docs/reference/file-formats.md. Every ratio must be the same, and at least 99.5% of the codes; not counted are groups
whose zero point is a tie: fp32 and fp64 may part there, and either way is the paper's.
"""
import copy
import json
import pathlib
import sys
import tempfile

import gptq_test
import numpy as np
import reference
import score_test
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "golden"))
import make_awq  # noqa: E402

MODES = [(4, 32, 0), (3, 0, 0), (4, 32, 1)]  # bits, group (0: a row), sym
# What is scaled together, and the module whose output tells how good that is.
GROUPS = [(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn"),
          (("self_attn.o_proj",), "self_attn.o_proj"), (("mlp.gate_proj", "mlp.up_proj"), "mlp"),
          (("mlp.down_proj",), "mlp.down_proj")]


def scheme_text(mode, texts):
    bits, group, sym = mode
    gran = f"gran=group;group={group}" if group else "gran=channel;group=0"
    return f"awq;bits={bits};{gran};sym={sym};scale=fp32;calib=fp;texts={texts}"


def quantizer_text(mode):
    return f"awq:bits={mode[0]},group={mode[1] or -1},sym={mode[2]}"


class Layer:
    """A block in fp64, and what its modules are called with and return."""

    def __init__(self, block, calls):
        self.block, self.calls = block, calls

    def rows(self, name):
        return np.concatenate([args[0].reshape(-1, args[0].shape[-1]) for args, _, _ in self.calls[name]])

    def loss(self, name):
        lost = 0
        for args, kwargs, want in self.calls[name]:
            got = self.block.get_submodule(name)(*[torch.as_tensor(a) for a in args], **kwargs)
            got = got[0] if isinstance(got, tuple) else got
            lost += ((got - want)**2).sum().item()
        return lost


@torch.no_grad()
def record(model, documents, layer):
    """Layer of the model, with the calls of all its documents."""
    model = copy.deepcopy(model).double()
    block = model.model.layers[layer]
    names = sorted({name for linears, inspected in GROUPS for name in (*linears, inspected)})
    calls = {name: [] for name in names}

    def hook(name):
        def keep(_, args, kwargs, output):
            kwargs = dict(kwargs)
            if not args:
                args = (kwargs.pop("hidden_states"),)
            output = output[0] if isinstance(output, tuple) else output
            calls[name].append((tuple(a.detach().numpy() for a in args), kwargs, output))
        return keep

    handles = [block.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True) for name in names]
    for ids in documents:
        model(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return Layer(block, calls)


@torch.no_grad()
def search(layer, mode, heads_differ):
    """Name of a linear layer -> column scales, codes, values, ties."""
    found = {}
    for linears, inspected in GROUPS:
        parameters = {name: layer.block.get_submodule(name).weight for name in linears}
        weights = {name: parameter.numpy().copy() for name, parameter in parameters.items()}
        inputs = layer.rows(linears[0])
        magnitudes = abs(inputs).mean(0)
        best, least = np.ones(inputs.shape[1]), np.inf
        if linears[0] != "self_attn.o_proj" or not heads_differ:
            for index in range(make_awq.RATIOS):
                scales = make_awq.column_scales(magnitudes, index / make_awq.RATIOS)
                for name, parameter in parameters.items():
                    values = make_awq.awq(weights[name], None, scales, *mode, clip=False)[1]
                    parameter.copy_(torch.tensor(values))
                loss = layer.loss(inspected)
                if loss < least:
                    best, least = scales, loss
            for name, parameter in parameters.items():
                parameter.copy_(torch.tensor(weights[name]))
        samples = inputs[::max(1, len(inputs) // 512)]
        for name in linears:
            clip = name not in ("self_attn.q_proj", "self_attn.k_proj")
            codes, values, _, tied = make_awq.awq(weights[name], samples, best, *mode, clip=clip)
            found[name] = best, codes, values, tied
    return found


def compare(name, case, documents, protect, modes, text, result):
    parameters = dict(case.model.named_parameters())
    ids = case.encode(text)
    log_fp = reference.log_probabilities(case.model, ids)
    layers = {layer: record(case.model, documents, layer) for layer in case.layers}
    config = case.model.config
    heads_differ = config.num_attention_heads != config.num_key_value_heads
    for mode in modes:
        where = f"{name}, {quantizer_text(mode)}"
        with tempfile.TemporaryDirectory() as cache:
            (row,) = case.score({"eng": text}, protect, quantizer_text(mode), cache)
            saved, equal, total, ties, scaled = {}, 0, 0, 0, 0
            for number, layer in layers.items():
                for part, (scales, codes, values, tied) in search(layer, mode, heads_differ).items():
                    linear = f"model.layers.{number}.{part}"
                    got_scales, got = case.codes(row["engine"], lambda texts: scheme_text(mode, texts), linear, cache)
                    scaled += not np.allclose(got_scales, scales, rtol=1e-3)
                    equal += int((codes == got)[~tied].sum())
                    total += int((~tied).sum())
                    ties += int(tied.sum())
                    parameter = parameters[f"{linear}.weight"]
                    saved[f"{linear}.weight"] = parameter.data
                    parameter.data = torch.from_numpy(values.astype(np.float32))
        print(f"{where}: {equal} of {total} codes equal, {ties} in ties, {scaled} layers with other scales")
        result.equal(where, "layers with other scales", scaled, 0)
        result.equal(where, "99.5% of the codes equal", equal >= 0.995 * total, True)
        want = reference.score(reference.log_probabilities(case.model, ids), log_fp, ids)
        reference.restore(case.model, saved)
        result.equal(where, "most codes without ties", ties < total, True)
        slack = 4 if ties else 1  # a tie moves its group by half a step
        result.relative(where, "nll_sum", row["nll_sum"], want["nll_sum"], 5e-3 * slack)
        result.relative(where, "kl_sum", row["kl_sum"], want["kl_sum"], 5e-2 * slack)


def main():
    binary = f"{sys.argv[1]}/qengine"
    torch.set_num_threads(1)  # spinning threads starve each other on a busy machine
    english = list(reference.udhr_documents(score_test.UDHR, "eng").values())
    result = score_test.Comparison()
    tiny = dict(score_test.TINY_MODELS)
    tiny["multi-head"] = {**tiny["grouped-query, tied"], "num_key_value_heads": 4, "intermediate_size": 160}
    tiny = {name: tiny[name] for name in ("multi-head", "own head, llama3 bands")}
    tiny["own head, llama3 bands"] = {**tiny["own head, llama3 bands"], "intermediate_size": 192}
    with tempfile.TemporaryDirectory() as root:
        for seed, (name, options) in enumerate(tiny.items()):
            folder = pathlib.Path(root) / str(seed)
            folder.mkdir()
            tokenizer = score_test.train_tokenizer(english, folder, seed == 1)
            model = score_test.make_tiny_model(options, tokenizer, folder, seed)
            case = gptq_test.Model(binary, folder, model, lambda text: tokenizer.encode(text).ids, english[1:9],
                                   range(options["num_hidden_layers"]))
            compare(name, case, [case.encode(text) for text in english[1:9]], "none", MODES, english[0], result)
    for failure in result.failures:
        print(failure)
    print(f"{result.values} values compared, {len(result.failures)} differ")
    return 1 if result.failures or result.values < 6 * 5 else 0


if __name__ == "__main__":
    sys.exit(main())
