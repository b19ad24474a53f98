"""Compares our tokenizer with the `tokenizers` package on a corpus made here: every script, emoji, control characters, all code points.

  python tokenizer_diff.py --program build/bin/tokenize_lines --model models/qa [--full] [--only NAME]

Each variant of the model's tokenizer.json encodes a share of the corpus (alone, in pairs, truncated into windows, padded, decoded) in both;
ids, tokens, offsets, words, types, masks, sequences and windows must be identical. Prints the first differences and exits 1 if there are any.
"""
import argparse
import copy
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile

try:
    from tokenizers import Tokenizer
    from tokenizers.implementations import BertWordPieceTokenizer
except ImportError:
    if python := os.environ.pop("OCIOR_PYTHON", None):
        os.execv(python, [python, *sys.argv])
    print("skipped: this Python has no tokenizers package; set OCIOR_PYTHON to one that has")
    sys.exit(77)

STDERR = os.dup(2)  # ours; file descriptor 2 goes to nowhere, since Rust reports there the panics that we expect

SENTENCES = [
    "The quick brown fox doesn't jump over the lazy dog's 3.5 unbelievable hyper-parameters; see e.g. http://example.org/a_b?c=d&e=%20!",
    "Der Fluß überquert die Brücke in Köln, während Ärzte größere Übungen machen – „schön“, sagte sie.",
    "L'été dernier, nous avons mangé des crêpes à Orléans ; c'était délicieux, n'est-ce pas ? Œuvre, cœur, naïve.",
    "El niño comió piñas en España, ¿verdad? ¡Qué lástima! La cigüeña voló a Bogotá.",
    "Zażółć gęślą jaźń. Łódź, Kraków i Gdańsk leżą w Polsce; źdźbło trawy.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Řeřicha a štěstí.",
    "Быстрая коричневая лиса прыгает через ленивую собаку; ёлка, подъезд, Ёжик и Йод.",
    "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί. ΟΔΥΣΣΕΥΣ, Ἀχιλλεύς, ᾧδε.",
    "السلام عليكم، كيف حالك اليوم؟ ٱلْحَمْدُ لِلَّٰهِ رَبِّ ٱلْعَٰلَمِينَ ١٢٣",
    "שָׁלוֹם עולם, מה שלומך? \u200fטקסט מימין לשמאל 42",
    "नमस्ते दुनिया, क्षत्रिय और हिन्दी में लिखा हुआ वाक्य। क़ ख़ ग़",
    "ประเทศไทยรวมเลือดเนื้อชาติเชื้อไทย กำลังน้ำ ๑๒๓",
    "快速的棕色狐狸跳过懒狗。中文分词，３４５ＡＢＣ「测试」！",
    "速い茶色の狐がのろまな犬を飛び越えた。カタカナ、ひらがな、ガギグゲゴ ｶﾞｷﾞ ㍿ か\u3099",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다. 각힣 \u1100\u1161\u11a8 \uac00\u11a8 한글",
    "Nhanh như cắt, con cáo nâu nhảy qua con chó lười. Việt Nam, Nguyễn, Đà Nẵng, ỡ ữ ậ a\u0323\u0302",
    "İstanbul'da ılık bir gün; IĞDIR, şeker, çiğ köfte, İİ",
    "ქართული ენა და Հայերեն լեզու, አማርኛ ፅሁፍ፡ ພາສາລາວ",
    "Z\u0351\u036b\u0343\u036a\u0302\u0334\u0319\u0324\u031eA\u0335\u0334\u031cL\u0320\u0368G\u0334\u033b! \u0301 \u0344\u0316 \u0f73\u0f72\u0f80",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈 🇩🇪🇫🇷 👍🏽 e\u0301 \u1e9b\u0323 ﬁﬂ ①②③ ½ ™ ㌔ ℡ ﷺ \U0001d400\U0001d7ce \U0001f100",
    "[CLS] literal [SEP] tokens [MASK][MASK] [PAD]x[UNK] and [cls] [ MASK ] mask]",
    "x\u00a0y\u2003z\u200bw\ufeffv\u00adu\u0000t\u0007s\ufffdr\u0085q\u2028p\u180eo\u3000n\tm\r\nl\u000bk\u000cj",
    "a_b-c.d,e;f:g!h?i'j\"k(l)m[n]o{p}q/r\\s|t@u#v$w%x^y&z*0+1=2~3`4<5>6",
    "donaudampfschifffahrtsgesellschaftskapitän pneumonoultramicroscopicsilicovolcanoconiosis ##ing ## # ##x",
    "1234567890 12,345.67 ٣٤٥ Ⅷ ⅷ 一二三 ² ³ ¹ 1⁄2 0x1F 3e-7",
    "yesterday Yesterday YESTERDAY <extra> <Extra> x<extra>y  <extra>  ñandú ÑANDÚ ab cd abcd ab  \tcd word_ab ab_word 12ab",
]
BLOCKS = [  # (first, last, name)
    (0x20, 0x7E, "ascii"), (0xA1, 0x24F, "latin"), (0x250, 0x2FF, "ipa"), (0x300, 0x36F, "combining"), (0x370, 0x3FF, "greek"),
    (0x400, 0x52F, "cyrillic"), (0x531, 0x58F, "armenian"), (0x590, 0x5FF, "hebrew"), (0x600, 0x6FF, "arabic"), (0x700, 0x7BF, "syriac"),
    (0x900, 0x97F, "devanagari"), (0x980, 0x9FF, "bengali"), (0xB80, 0xBFF, "tamil"), (0xE00, 0xEFF, "thai, lao"), (0xF00, 0xFFF, "tibetan"),
    (0x1000, 0x109F, "myanmar"), (0x10A0, 0x11FF, "georgian, jamo"), (0x1780, 0x17FF, "khmer"), (0x1E00, 0x1FFF, "extended"),
    (0x2000, 0x206F, "punctuation"), (0x2070, 0x23FF, "symbols"), (0x2460, 0x24FF, "enclosed"), (0x2600, 0x27BF, "dingbats"),
    (0x3000, 0x30FF, "kana"), (0x3100, 0x33FF, "cjk symbols"), (0x3400, 0x3420, "han a"), (0x4E00, 0x5200, "han"), (0xAC00, 0xAD00, "hangul"),
    (0xF900, 0xFAFF, "han compat"), (0xFB00, 0xFDFF, "forms"), (0xFE00, 0xFE6F, "variation"), (0xFF00, 0xFFEF, "width"),
    (0x1D100, 0x1D1FF, "music"), (0x1D400, 0x1D4FF, "math"), (0x1F1E6, 0x1F1FF, "flags"), (0x1F300, 0x1F64F, "emoji"), (0x20000, 0x20040, "han b"),
]


def corpus(full):
    rng = random.Random(7)
    lines = ["", " ", "\n", "a", "\u0301", "\u0000", " \t ", "한", "漢", "[CLS]"] + SENTENCES
    for s in SENTENCES:  # every cut of a sentence that falls at a multiple of three, its cases, its words shuffled
        lines += [s[i:] for i in range(0, len(s), 3)] + [s.upper(), s.lower(), s.title(), s[::-1], s + s]
        words = s.split(" ")
        for _ in range(6):
            rng.shuffle(words)
            lines.append(" ".join(words))
    for first, last, _ in BLOCKS:
        for _ in range(40):
            lines.append("".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 60))))
            lines.append(" ".join("".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 8))) for _ in range(8)))
    alphabet = [chr(rng.randint(f, l)) for f, l, _ in BLOCKS for _ in range(12)] + list(" \t\n\u200d\ufe0f\u0301\u0327\u3099" * 12) + list("aeioun" * 12)
    for _ in range(2500):
        lines.append("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40))))
    for _ in range(1500):
        lines.append("".join(rng.choice(rng.choice(SENTENCES)) for _ in range(rng.randint(1, 50))))
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and (full or c < 0x30000 or 0xE0000 <= c < 0xE0200 or c % 101 == 0)]
    for i in range(0, len(points), 48):
        chunk = "".join(map(chr, points[i : i + 48]))
        lines.append(chunk if i // 48 % 2 else "a" + " a".join(chunk))
    golden = os.path.join(os.path.dirname(__file__), "../../../shared/accept/qa_golden.jsonl")
    if os.path.exists(golden):
        with open(golden, encoding="utf-8") as f:
            lines += sorted({json.loads(line)[k] for line in f for k in ("question", "context")})
    return lines


def added(content, id_, **flags):
    return {"id": id_, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False, **flags}


def with_parts(base, parts):
    """The tokenizer.json `base` with some top-level members replaced; those of the model one by one."""
    return {**base, **parts, "model": {**base["model"], **parts.get("model", {})}}


def variants(base):
    """Yields (name, parts that differ from tokenizer.json, share of the corpus)."""
    def make(name, share, **parts):
        return name, parts, share

    bert = lambda **o: {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True, **o}
    seq = lambda *n: {"type": "Sequence", "normalizers": [x if isinstance(x, dict) else {"type": x} for x in n]}
    cuts = lambda *n: {"type": "Sequence", "pretokenizers": [x if isinstance(x, dict) else {"type": x} for x in n]}
    yield make("base", 1.0)
    yield make("cased", 0.2, normalizer=bert(lowercase=False))
    yield make("keep accents", 0.2, normalizer=bert(strip_accents=False))
    yield make("accents only", 0.2, normalizer=bert(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False))
    yield make("nfkc", 0.4, normalizer=seq("NFKC", "Lowercase", "StripAccents"), pre_tokenizer={"type": "Whitespace"})
    yield make("nfd", 0.4, normalizer=seq("NFD", "StripAccents", "Lowercase", {"type": "Strip", "strip_left": True, "strip_right": True}))
    yield make("nfc", 0.4, normalizer={"type": "NFC"}, pre_tokenizer={"type": "WhitespaceSplit"}, post_processor=None)
    yield make("nfkd", 0.4, normalizer={"type": "NFKD"}, pre_tokenizer=cuts({"type": "Digits", "individual_digits": True}, "Punctuation"))
    yield make("nfd nfc", 0.2, normalizer=seq("NFD", "NFKC", "NFD", "NFC"), pre_tokenizer={"type": "Digits", "individual_digits": False})
    yield make("replace", 0.2, pre_tokenizer={"type": "Digits", "individual_digits": False},
               normalizer=seq({"type": "Replace", "pattern": {"String": "a"}, "content": "xyz"}, {"type": "Prepend", "prepend": "▁q"},
                              {"type": "Replace", "pattern": {"String": ". "}, "content": ""}, {"type": "Strip", "strip_left": False, "strip_right": True},
                              {"type": "Replace", "pattern": {"String": "xyzn"}, "content": "é"}, "Lowercase"))
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        yield make("punctuation " + behavior, 0.05, pre_tokenizer=cuts("WhitespaceSplit", {"type": "Punctuation", "behavior": behavior}))
    yield make("no normalizer", 0.1, normalizer=None)
    yield make("no pre-tokenizer", 0.1, pre_tokenizer=None)
    yield make("nothing", 0.1, normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None, added_tokens=[])
    yield make("short words", 0.1, model={"max_input_chars_per_word": 5, "unk_token": "the"})
    yield make("no prefix", 0.1, model={"continuing_subword_prefix": ""}, decoder={"type": "WordPiece", "prefix": "", "cleanup": False})
    flags = list(itertools.product((False, True), repeat=5))
    contents = ["ab", "Yesterday", "<extra>", "ÑANDÚ", " cd", "  ", "x y", "ing", "漢", "_", "É", "the", "un", "[MASK]", "fox", "été"]
    for half in range(4):
        tokens = base["added_tokens"] + [
            added(c, 30522 + i, **dict(zip(("single_word", "lstrip", "rstrip", "normalized", "special"), flags[(i * 7 + half * 5 + i // 3) % 32])))
            for i, c in enumerate(contents)]
        tokens = [t for t in tokens if not (t["content"] == "  " and t["lstrip"])]  # may panic there
        yield make(f"added tokens {half}", 0.2, added_tokens=tokens, normalizer=bert(lowercase=half != 2))
    processing = {"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]}
    yield make("bert processing", 0.1, post_processor=processing)
    template = copy.deepcopy(base["post_processor"])
    yield make("processors", 0.1, post_processor={"type": "Sequence", "processors": [processing, template]})
    odd = copy.deepcopy(template)
    odd["special_tokens"]["[CLS]"] = {"id": "[CLS]", "ids": [101, 7, 8], "tokens": ["[CLS]", "seven", "eight"]}
    odd["pair"] = [{"Sequence": {"id": "B", "type_id": 3}}, {"SpecialToken": {"id": "[CLS]", "type_id": 4}}, {"Sequence": {"id": "A", "type_id": 0}}]
    odd["single"] = [{"Sequence": {"id": "A", "type_id": 5}}]
    yield make("odd template", 0.1, post_processor=odd)
    for strategy, direction in itertools.product(("LongestFirst", "OnlyFirst", "OnlySecond"), ("Left", "Right")):
        for max_length, stride in ((12, 3), (7, 0), (64, 20), (3, 0)):
            yield make(f"truncation {strategy} {direction} {max_length} {stride}", 0.015,
                       truncation={"direction": direction, "max_length": max_length, "strategy": strategy, "stride": stride},
                       post_processor=[template, processing, None][max_length % 3])
    pad = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    cut = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 4}
    yield make("pad fixed", 0.05, padding={**pad, "strategy": {"Fixed": 24}})
    yield make("pad left", 0.05, padding={**pad, "strategy": {"Fixed": 24}, "direction": "Left", "pad_id": 9, "pad_type_id": 2}, truncation=cut)
    yield make("pad longest", 0.05, padding={**pad, "strategy": "BatchLongest", "pad_to_multiple_of": 8}, truncation=cut)
    yield make("pad longest left", 0.05, padding={**pad, "strategy": "BatchLongest", "direction": "Left"}, post_processor=None)


def requests_for(lines, share, rng):
    picked = lines if share == 1.0 else lines[:40] + rng.sample(lines, int(len(lines) * share / 3))
    for i, text in enumerate(picked):
        yield {"text": text}
        if i % 3 == 0:
            yield {"text": text, "add_special": False}
        if i % 2 == 0:
            yield {"text": picked[(i * 7 + 1) % len(picked)][:80], "pair": text}
        if i % 5 == 0:
            yield {"decode": [rng.randrange(30540) for _ in range(20)] + [101, 2054, 102, 29379], "skip": i % 2 == 0}
        if i % 7 == 0:
            yield {"batch": picked[i : i + 5]}
        if i % 4 == 0 and share > 0.03:
            question = picked[(i * 5 + 3) % len(picked)][:20]
            yield {"text": question, "pair": text, "truncation": {"strategy": rng.choice(["longest_first", "only_first", "only_second"]),
                                                                  "max_length": rng.choice([24, 40, 100]), "stride": rng.choice([0, 1, 5, 13]),
                                                                  "direction": rng.choice(["left", "right"])}}


def shape(e):
    return {"ids": e.ids, "type_ids": e.type_ids, "tokens": e.tokens, "offsets": [list(o) for o in e.offsets],
            "word_ids": [-1 if w is None else w for w in e.word_ids], "special": e.special_tokens_mask, "attention": e.attention_mask,
            "sequence_ids": [-1 if s is None else s for s in e.sequence_ids], "overflowing": [shape(o) for o in e.overflowing]}


def reference(tokenizer, truncation, request):
    try:
        if "decode" in request:
            return tokenizer.decode(request["decode"], skip_special_tokens=request["skip"])
        if "batch" in request:
            return [shape(e) for e in tokenizer.encode_batch(request["batch"])]
        if "truncation" in request:
            tokenizer.enable_truncation(**request["truncation"])
        try:
            return shape(tokenizer.encode(request["text"], request.get("pair"), add_special_tokens=request.get("add_special", True)))
        finally:
            if "truncation" in request:
                tokenizer.no_truncation()
                if truncation:
                    tokenizer.enable_truncation(**truncation)
    except BaseException as e:  # a Rust panic is not an Exception
        if isinstance(e, KeyboardInterrupt):
            raise
        return {"error": str(e)}


def first_difference(ours, theirs, where=""):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if "error" in ours or "error" in theirs:
            return None if "error" in ours and "error" in theirs else f"{where}: ours {str(ours)[:300]} theirs {str(theirs)[:300]}"
        for key in theirs:
            if d := first_difference(ours[key], theirs[key], f"{where}.{key}"):
                return d
        return None
    if isinstance(ours, list) and isinstance(theirs, list) and ours != theirs and len(ours) == len(theirs):
        for i, (a, b) in enumerate(zip(ours, theirs)):
            if d := first_difference(a, b, f"{where}[{i}]"):
                return d
        return None
    return None if ours == theirs else f"{where}: ours {str(ours)[:300]} theirs {str(theirs)[:300]}"


def compare(name, program, path, tokenizer, truncation, requests, shown):
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stdin:
        for r in requests:
            stdin.write(json.dumps(r) + "\n")
        stdin.seek(0)
        run = subprocess.run([program, path], stdin=stdin, stdout=subprocess.PIPE, stderr=STDERR, encoding="utf-8")
    # split on the line feed alone: JSON strings may hold other line separators
    answers = run.stdout.split("\n")[:-1]
    if run.returncode or len(answers) != len(requests):
        print(f"{name}: {program} answered {len(answers)} of {len(requests)} requests, exit status {run.returncode}")
        return 1
    differences = 0
    for request, answer in zip(requests, answers):
        difference = first_difference(json.loads(answer), reference(tokenizer, truncation, request))
        if difference:
            differences += 1
            if differences <= shown:
                print(f"{name}: {difference}\n    request {json.dumps(request)[:600]}")
    return differences


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--full", action="store_true", help="all code points, the whole corpus for every variant")
    parser.add_argument("--only", help="variants whose name contains this")
    args = parser.parse_args()
    sys.stderr = os.fdopen(STDERR, "w")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with open(os.path.join(args.model, "tokenizer.json"), encoding="utf-8") as f:
        base = json.load(f)
    lines = corpus(args.full)
    rng = random.Random(11)
    total = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.json")
        for name, parts, share in variants(base):
            if args.only and args.only not in name:
                continue
            data = with_parts(base, parts)
            with open(path, "w", encoding="utf-8") as f:
                json.dump(data, f)
            truncation = data["truncation"] and {
                "max_length": data["truncation"]["max_length"], "stride": data["truncation"]["stride"], "direction": data["truncation"]["direction"].lower(),
                "strategy": {"LongestFirst": "longest_first", "OnlyFirst": "only_first", "OnlySecond": "only_second"}[data["truncation"]["strategy"]]}
            requests = list(requests_for(lines, 1.0 if args.full else share, rng))
            differences = compare(name, args.program, path, Tokenizer.from_file(path), truncation, requests, 3)
            total, failed = total + len(requests), failed + differences
            if differences:
                print(f"{name}: {differences} of {len(requests)} differ")
        for name, config in {"vocab.txt": {"do_lower_case": True}, "vocab.txt cased": {"do_lower_case": False, "strip_accents": True},
                             "vocab.txt no Han": {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}}.items():
            if args.only and args.only not in name:
                continue
            vocab = os.path.join(folder, "vocab", "vocab.txt")
            os.makedirs(os.path.dirname(vocab), exist_ok=True)
            with open(os.path.join(args.model, "vocab.txt"), "rb") as source, open(vocab, "wb") as target:
                target.write(source.read())
            with open(os.path.join(folder, "vocab", "tokenizer_config.json"), "w") as f:
                json.dump(config, f)
            theirs = BertWordPieceTokenizer(vocab, lowercase=config["do_lower_case"], strip_accents=config.get("strip_accents"),
                                            handle_chinese_chars=config.get("tokenize_chinese_chars", True))
            requests = [r for r in requests_for(lines, 1.0 if args.full else 0.1, rng) if "truncation" not in r]
            differences = compare(name, args.program, os.path.dirname(vocab), theirs, None, requests, 3)
            total, failed = total + len(requests), failed + differences
    print(f"{len(lines)} lines, {total} requests, {failed} differ")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
