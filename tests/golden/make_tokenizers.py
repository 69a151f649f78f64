"""Writes tokenizers.json: small tokenizers and what the official library makes of texts.

{"models": {name: BPE model}, "tokenizers": [{"name", "model": name, "json": the
rest of tokenizer.json, "cases": [{"text", "ids"}]}]}. ids are those with what the
template adds: <s> in front and </s> behind.
Run: python tests/golden/make_tokenizers.py > tests/golden/tokenizers.json
"""
import json
import random

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

TRAINING = [
    "All human beings are born free and equal in dignity and rights.",
    "They are endowed with reason and conscience and should act in a spirit of brotherhood.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. 1948, 10. 12.",
] * 4
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

TEXTS = [
    "", " ", "   ", "a", "All human beings", " All  human   beings ", "born free\n\nand\tequal",
    "I'll don't WE'RE they'd ſ's", "10.12.1948 ½ Ⅷ ٣٤", "Wu\u0308rde Würde", "日本語 テスト 한국어",
    "\u1100\u1161\u11a8", "e\u0d3c\u0352\u0323", "emoji 👩‍👩‍👧 🇩🇪", "\u00a0\u3000x\u2028y\u180ez\u0085w", "a▁b ▁ c▁▁d",
    "<s> hello <s>world</s>", "x <mask>  y <mask>z", "ab<pad>cd <pad> ef", "worldWORD WORD word",
    "Würdeé <Würde> x", "\u0000\u0001\u007f", "a" * 70 + " " * 40 + "b", "..., --- !!! ???",
]


def random_texts(count, seed):
    rng = random.Random(seed)
    pieces = ["All", " ", "  ", "\n", "\t", "Würde", "e\u0301", "<s>", "</s>", "<mask>", "<pad>",
              "WORD", "12", "7", "▁", ".", ",", "'s", "und", "中", "\u00a0", "🙂", "ﬁ", "Å"]
    return ["".join(rng.choice(pieces) for _ in range(rng.randint(1, 14))) for _ in range(count)]


ADDED = [
    AddedToken("<s>", special=True, normalized=False),
    AddedToken("</s>", special=True, normalized=False),
    AddedToken("<mask>", lstrip=True, normalized=False),
    AddedToken("<pad>", rstrip=True, normalized=False, special=True),
    AddedToken("WORD", single_word=True, normalized=False),
    AddedToken("Würde", normalized=True),
]


def train(byte_level):
    tokenizer = Tokenizer(models.BPE(unk_token=None if byte_level else "<unk>"))
    if byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        special = []
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        alphabet = []
        special = ["<unk>", "<0x0A>", "<0xC3>", "<0xA9>", "<0xE4>", "<0xB8>", "<0xAD>"]
    trainer = trainers.BpeTrainer(vocab_size=len(alphabet) + 90, initial_alphabet=alphabet,
                                  special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TRAINING, trainer)
    return json.loads(tokenizer.to_str())["model"]


def build(model, **parts):
    tokenizer = Tokenizer(models.BPE())
    spec = json.loads(tokenizer.to_str())
    spec["model"] = model
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    for name, value in parts.items():
        setattr(tokenizer, name, value)
    tokenizer.add_tokens(ADDED)
    tokenizer.add_special_tokens([t for t in ADDED if t.special])
    return tokenizer


def template(tokenizer):
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A $B </s>",
            special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("<s>", "</s>")])])
    return tokenizer


def main():
    bytes_model, chars_model = train(True), train(False)
    fallback = dict(chars_model, byte_fallback=True, fuse_unk=True)
    whole = dict(bytes_model, ignore_merges=True)
    used = {"bytes": bytes_model, "chars": chars_model, "fallback": fallback, "whole": whole}
    byte_level = lambda **k: pre_tokenizers.ByteLevel(**k)
    variants = [
        ("gpt2", "bytes", dict(pre_tokenizer=byte_level(add_prefix_space=False))),
        ("gpt2 with a space in front", "bytes", dict(pre_tokenizer=byte_level(add_prefix_space=True))),
        ("smollm", "bytes", dict(pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), byte_level(add_prefix_space=False)]))),
        ("runs of digits", "bytes", dict(pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=False), byte_level(add_prefix_space=False)]))),
        ("llama3", "whole", dict(normalizer=normalizers.NFC(), pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
             byte_level(add_prefix_space=False, use_regex=False)]))),
        ("llama2", "fallback", dict(normalizer=normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]))),
        ("regex replace", "chars", dict(normalizer=normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), "▁")]))),
        ("metaspace always", "fallback", dict(pre_tokenizer=pre_tokenizers.Metaspace())),
        ("metaspace first", "chars", dict(pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first"))),
        ("metaspace never, whole", "fallback", dict(pre_tokenizer=pre_tokenizers.Metaspace(
            prepend_scheme="never", split=False))),
    ]
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            variants.append((f"split {behavior} {'inverted' if invert else 'plain'}", "bytes",
                             dict(pre_tokenizer=pre_tokenizers.Sequence([
                                 pre_tokenizers.Split("." if invert else Regex(r"[\s.]"), behavior, invert),
                                 byte_level(add_prefix_space=False, use_regex=False)]))))
    out = []
    texts = TEXTS + random_texts(40, 7)
    for name, model, parts in variants:
        tokenizer = template(build(used[model], **parts))
        spec = json.loads(tokenizer.to_str())
        del spec["model"]
        cases = [{"text": t, "ids": tokenizer.encode(t).ids} for t in texts]
        out.append({"name": name, "model": model, "json": spec, "cases": cases})
    print(json.dumps({"models": used, "tokenizers": out}, separators=(",", ":")))


if __name__ == "__main__":
    main()
