"""Writes tokenizer_cases.json for src/text/tokenizer_test.cpp: what the `tokenizers` package makes of a few lines with a few variants of the file.

  python tests/text/make_tokenizer_cases.py models/qa > tests/text/tokenizer_cases.json

tokenizer_diff.py compares thoroughly; these cases keep the C++ tests honest where there is no Python.
"""
import json
import random
import sys

from tokenizer_diff import SENTENCES, reference, variants, with_parts
from tokenizers import Tokenizer

CHOSEN = {"base": 20, "cased": 4, "nfkc": 6, "nfd": 6, "nfd nfc": 5, "replace": 4, "added tokens 1": 6, "processors": 2, "odd template": 2,
          "truncation LongestFirst Left 64 20": 2, "truncation OnlySecond Right 12 3": 2, "pad longest left": 2}


def main():
    with open(sys.argv[1] + "/tokenizer.json", encoding="utf-8") as f:
        base = json.load(f)
    rng = random.Random(5)
    cases = []
    for name, parts, _ in variants(base):
        if name not in CHOSEN:
            continue
        tokenizer = Tokenizer.from_str(json.dumps(with_parts(base, parts)))
        texts = SENTENCES[-6:-5] + rng.sample(SENTENCES, CHOSEN[name])
        requests = [{"text": t} for t in texts] + [{"text": texts[-1][:30], "pair": texts[0]}, {"batch": texts[:2]},
                                                   {"decode": [rng.randrange(30522) for _ in range(12)] + [101], "skip": True}]
        truncation = None  # requests do not override the file's
        cases.append({"name": name, "parts": parts, "requests": requests, "answers": [reference(tokenizer, truncation, r) for r in requests]})
    json.dump(cases, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
