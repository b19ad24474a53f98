"""Writes qa_cases.json for src/text/qa_test.cpp: windows from the `tokenizers` package, answers from a numpy model of the reference.

  python tests/text/make_qa_cases.py models/qa > tests/text/qa_cases.json

`pipeline` follows the question-answering pipeline of transformers 5.2.0 step by step (float32, argpartition, merging by lower-cased text);
`squad` its SQuAD metrics with token offsets in place of whitespace words. Logits are random with five decimals, so that nothing ties.
"""
import json
import sys

import numpy as np
from tokenizers import Tokenizer


def windows_of(tokenizer, question, context, max_seq_len, stride):
    tokenizer.enable_truncation(max_seq_len, stride=stride, strategy="only_second")
    first = tokenizer.encode(question, context)
    tokenizer.no_truncation()
    return [first] + first.overflowing


def p_mask_of(enc, cls):
    return np.array([0 if s == 1 or i == cls else 1 for s, i in zip(enc.sequence_ids, enc.ids)])


def char_span(enc, s, e, align):
    if align:
        try:
            return (enc.word_to_chars(enc.token_to_word(s), 1)[0], enc.word_to_chars(enc.token_to_word(e), 1)[1])
        except Exception:
            pass
    return enc.offsets[s][0], enc.offsets[e][1]


def pipeline(encs, cls, context, starts, ends, top_k=1, max_answer_len=15, handle_impossible_answer=False, align_to_words=True):
    null, answers = 1000000, []
    k = top_k * 2 + 10 if align_to_words else top_k
    for enc, start, end in zip(encs, starts, ends):
        masked = p_mask_of(enc, cls) == 1
        start = np.where(masked, np.float32(-10000), np.array(start, np.float32))
        end = np.where(masked, np.float32(-10000), np.array(end, np.float32))
        start, end = np.exp(start - start.max()), np.exp(end - end.max())
        start, end = start / start.sum(), end / end.sum()
        null = min(null, float(start[0] * end[0]))
        start[0] = end[0] = 0
        scores = np.tril(np.triu(np.outer(start, end)), max_answer_len - 1).flatten()
        if k == 1:
            best = np.array([np.argmax(scores)])
        elif len(scores) <= k:
            best = np.argsort(-scores)
        else:
            best = np.argpartition(-scores, k)[:k]
            best = best[np.argsort(-scores[best])]
        for flat in best:
            s, e = divmod(int(flat), len(start))
            if masked[s] or masked[e] or scores[flat] == 0:  # which of the spans that score 0 argpartition finds is chance
                continue
            begin, stop = char_span(enc, s, e, align_to_words)
            text = context[begin:stop]
            for answer in answers:
                if answer["answer"].lower() == text.lower():
                    answer["score"] += float(scores[flat])
                    break
            else:
                answers.append({"score": float(scores[flat]), "start": begin, "end": stop, "answer": text})
    if handle_impossible_answer:
        answers.append({"score": null, "start": 0, "end": 0, "answer": ""})
    return sorted(answers, key=lambda a: a["score"], reverse=True)[:top_k]


def max_context(spans, index, position):
    best, owner = None, None
    for i, (begin, length) in enumerate(spans):
        last = begin + length - 1
        if begin <= position <= last:
            score = min(position - begin, last - position) + 0.01 * length
            if best is None or score > best:
                best, owner = score, i
    return owner == index


def squad(encs, context, starts, ends, top_k=1, max_answer_len=15, n_best=20, handle_impossible_answer=False, null_threshold=0.0):
    spans, at = [], 0
    offsets = [[t for t, s in enumerate(enc.sequence_ids) if s == 1] for enc in encs]
    firsts = {}
    order = sorted({enc.offsets[t] for enc, ts in zip(encs, offsets) for t in ts})  # the context's tokens in order
    firsts = {o: i for i, o in enumerate(order)}
    for enc, ts in zip(encs, offsets):
        spans.append((firsts[enc.offsets[ts[0]]], len(ts)))
    prelim, null = [], 1000000
    for i, (enc, start, end) in enumerate(zip(encs, starts, ends)):
        null = min(null, float(np.float32(start[0])) + float(np.float32(end[0])))
        top = lambda l: [j for j, _ in sorted(enumerate(l), key=lambda x: x[1], reverse=True)][:n_best]
        for s in top(start):
            for e in top(end):
                if s not in offsets[i] or e not in offsets[i] or e < s or e - s + 1 > max_answer_len:
                    continue
                if not max_context(spans, i, firsts[enc.offsets[s]]):
                    continue
                prelim.append((float(np.float32(start[s])) + float(np.float32(end[e])), enc.offsets[s][0], enc.offsets[e][1]))
    if handle_impossible_answer:
        prelim.append((null, 0, 0))
    seen, nbest = set(), []
    for score, begin, stop in sorted(prelim, key=lambda p: p[0], reverse=True):
        text = context[begin:stop]
        if len(nbest) >= n_best:
            break
        if text in seen:
            continue
        seen.add(text)
        nbest.append({"score": score, "start": begin, "end": stop, "answer": text})
    if handle_impossible_answer and "" not in seen:
        nbest.append({"score": null, "start": 0, "end": 0, "answer": ""})
    chosen = nbest[0] if nbest else None
    if handle_impossible_answer:
        best = next((a for a in nbest if a["answer"]), None)
        empty = next(a for a in nbest if not a["answer"])
        chosen = best if best and null - best["score"] <= null_threshold else empty
    if chosen:
        nbest.remove(chosen)
        nbest.insert(0, chosen)
    if nbest:
        top = max(a["score"] for a in nbest)
        total = sum(np.exp(a["score"] - top) for a in nbest)
        for a in nbest:
            a["score"] = float(np.exp(a["score"] - top) / total)
    return nbest[:top_k]


TEXTS = [
    ("Who wrote it?", "Ada Lovelace wrote the first published algorithm. Charles Babbage designed the Analytical Engine."),
    ("When was Beyoncé born?", "Beyoncé 👩‍🎤 was born on 4 September 1981 — “Queen Bey” – in Houston, Texas; e\u0301lan vital. İstanbul!"),
    ("Where is it?", "The tower is in Paris. It is tall. THE TOWER is in paris. The Tower, in PARIS, is old. the tower of Paris."),
    ("什么时候?", "北京是中国的首都，有三千年历史。上海在一九九零年代快速发展。"),
    ("What does [CLS] mean?", "In BERT the [CLS] token starts the input, [SEP] ends it, and [MASK] hides unbelievable words."),
    ("why", "antidisestablishmentarianism and pneumonoultramicroscopicsilicovolcanoconiosis are hyperextraordinarily unpronounceable words"),
    ("How many?", "One."),
    ("Is there anything at all?", "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"),
]


def main():
    tokenizer = Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
    cls = tokenizer.token_to_id("[CLS]")
    rng = np.random.default_rng(3)
    cases = []
    for question, context in TEXTS:
        for max_seq_len, stride in ((384, 128), (32, 8), (22, 5), (20, 0)):
            encs = windows_of(tokenizer, question, context, max_seq_len, stride)
            starts, ends = ([[round(float(x), 5) for x in rng.normal(0, 3, len(e.ids))] for e in encs] for _ in range(2))
            runs = []
            for o in ({}, {"top_k": 5}, {"top_k": 3, "handle_impossible_answer": True}, {"top_k": 4, "align_to_words": False},
                      {"align_to_words": False}, {"max_answer_len": 1}, {"top_k": 30, "max_answer_len": 3, "handle_impossible_answer": True}):
                runs.append({"mode": "pipeline", "options": o, "answers": pipeline(encs, cls, context, starts, ends, **o)})
            for o in ({}, {"top_k": 20}, {"top_k": 5, "handle_impossible_answer": True}, {"n_best": 5, "top_k": 9, "max_answer_len": 4},
                      {"handle_impossible_answer": True, "null_threshold": -4.0, "top_k": 3}):
                runs.append({"mode": "squad", "options": o, "answers": squad(encs, context, starts, ends, **o)})
            cases.append({"question": question, "context": context, "max_seq_len": max_seq_len, "doc_stride": stride,
                          "windows": [{"ids": e.ids, "type_ids": e.type_ids, "offsets": e.offsets,
                                       "word_ids": [-1 if w is None else w for w in e.word_ids], "p_mask": p_mask_of(e, cls).tolist()} for e in encs],
                          "start": starts, "end": ends, "runs": runs})
    json.dump(cases, sys.stdout, separators=(",", ":"), ensure_ascii=True)
    print()


if __name__ == "__main__":
    main()
