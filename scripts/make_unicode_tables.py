"""Writes src/text/unicode_tables.inc: the character tables of the `tokenizers` Python package, found by asking the package itself.

  python scripts/make_unicode_tables.py > src/text/unicode_tables.inc

The package mixes several Unicode versions (normalization is Unicode 9, punctuation older still), so that no published table equals
what it does. Every property below is therefore the package's answer for each of the 1,112,064 scalar values; the script checks on
its way that the answers fit the shape of the table (decompositions are per character, composition pairs are complete, and so on).
"""
import itertools
import sys

from tokenizers import normalizers, pre_tokenizers
import tokenizers

SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
SPACE, DROPPED, PUNCTUATION, MN, MARK, NUMERIC, WORD, HAN, LOWER, NFD, NFKD, CLASS = (1 << i for i in range(12))


def pieces(pre_tokenizer, text):
    return [p for p, _ in pre_tokenizer.pre_tokenize_str(text)]


def flags_and_maps():
    clean = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    han = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    strip = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    marks, lower, nfd, nfkd = normalizers.StripAccents(), normalizers.Lowercase(), normalizers.NFD(), normalizers.NFKD()
    space, words = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Whitespace()
    punctuation, digits = pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)
    flags, lowered, canonical, compatible = {}, {}, {}, {}
    for c in SCALARS:
        ch, f = chr(c), 0
        if not pieces(space, ch):
            f |= SPACE
        if clean.normalize_str(ch) == "":
            f |= DROPPED
        else:
            assert clean.normalize_str(ch) == (" " if f & SPACE else ch), hex(c)
        if len(pieces(punctuation, "a" + ch)) == 2:
            f |= PUNCTUATION
        if len(pieces(digits, "a" + ch)) == 2:
            f |= NUMERIC
        split = pieces(words, "a" + ch)
        if split == ["a" + ch]:
            f |= WORD
        else:
            assert (split == ["a"]) == bool(f & SPACE), hex(c)
        if marks.normalize_str(ch) == "":
            f |= MARK
        d, k, l = nfd.normalize_str(ch), nfkd.normalize_str(ch), lower.normalize_str(ch)
        if d == ch and strip.normalize_str(ch) == "":
            f |= MN
        if han.normalize_str(ch) != ch:
            assert han.normalize_str(ch) == f" {ch} "
            f |= HAN
        hangul = 0xAC00 <= c < 0xAC00 + 11172
        if l != ch:
            lowered[c], f = l, f | LOWER
        if d != ch:
            canonical[c], f = d, f | NFD
        if k != ch:
            compatible[c], f = k, f | NFKD
        if hangul:  # arithmetic in the C++
            parts = [0x1100 + (c - 0xAC00) // 588, 0x1161 + (c - 0xAC00) % 588 // 28, 0x11A7 + (c - 0xAC00) % 28]
            assert d == k == "".join(map(chr, parts[: 2 + (parts[2] != 0x11A7)])), hex(c)
            del canonical[c], compatible[c]
        flags[c] = f
    for c, d in canonical.items():  # accents go after decomposition
        kept = "".join(x for x in d if not flags[ord(x)] & MN)
        assert strip.normalize_str(chr(c)) == kept, hex(c)
    return flags, lowered, canonical, compatible


def combining_classes(flags):
    """Classes found by order: NFD swaps `a b` exactly when class(a) > class(b) > 0. Only their order matters, so they are numbered 1.."""
    nfd = normalizers.NFD()
    plain = lambda c: not flags[c] & NFD
    after = lambda a, b: nfd.normalize_str(chr(a) + chr(b)) == chr(b) + chr(a)  # class(a) > class(b) > 0
    low, high = 0x0334, 0x0345  # the lowest and the highest class
    found = [c for c in SCALARS if plain(c) and (after(c, low) or after(high, c))] + [low, high]
    groups = []  # ascending, members equal
    for c in sorted(set(found)):
        lo, hi = 0, len(groups)
        while lo < hi:
            mid = (lo + hi) // 2
            if after(c, groups[mid][0]):
                lo = mid + 1
            else:
                hi = mid
        if lo < len(groups) and not after(groups[lo][0], c):
            groups[lo].append(c)
        else:
            groups.insert(lo, [c])
    return {c: i + 1 for i, group in enumerate(groups) for c in group}


def composition_pairs(canonical):
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    pairs = {}
    for c, d in canonical.items():
        if nfc.normalize_str(chr(c)) != chr(c):
            continue  # excluded from composition
        first = nfc.normalize_str(d[:-1])
        assert len(first) == 1, hex(c)
        pairs[ord(first), ord(d[-1])] = c
    for a, b in itertools.product({a for a, _ in pairs}, {b for _, b in pairs}):
        joined = nfc.normalize_str(chr(a) + chr(b))
        in_order = nfd.normalize_str(chr(a) + chr(b)) == nfd.normalize_str(chr(a)) + nfd.normalize_str(chr(b))
        assert not in_order or (len(joined) == 1) == ((a, b) in pairs), (hex(a), hex(b))
    return pairs


def rows(name, type_, items, width=130):
    print(f"inline constexpr {type_} {name}[] = {{")
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > width:
            print(line)
            line = "   "
        line += " " + item + ","
    print(line + "\n};")


def decomposition(name, table):
    pool, starts, entries = [], {}, []
    for c, d in sorted(table.items()):
        if d not in starts:
            starts[d] = len(pool)
            pool += map(ord, d)
        entries.append(f"{{0x{c:X},{starts[d]},{len(d)}}}")
    rows(f"k{name}", "Decomposition", entries)
    rows(f"k{name}Pool", "char32_t", [f"0x{c:X}" for c in pool])


def main():
    flags, lowered, canonical, compatible = flags_and_maps()
    classes = combining_classes(flags)
    for c in classes:
        flags[c] |= CLASS
    pairs = composition_pairs(canonical)
    print(f"// Written by scripts/make_unicode_tables.py from tokenizers {tokenizers.__version__}; do not edit. Included by unicode.cpp only.")
    print("// clang-format off")
    runs = [(c, f) for (c, f), before in zip(sorted(flags.items()), [None] + [f for _, f in sorted(flags.items())]) if f != before]
    rows("kFlagRuns", "FlagRun", [f"{{0x{c:X},0x{f:X}}}" for c, f in runs])
    assert all(len(l) <= 2 for l in lowered.values())
    rows("kLower", "Mapping", [f"{{0x{c:X},0x{ord(l[0]):X},0x{ord(l[1]) if len(l) > 1 else 0:X}}}" for c, l in sorted(lowered.items())])
    decomposition("Canonical", canonical)
    decomposition("Compatible", {c: k for c, k in compatible.items() if canonical.get(c) != k})
    class_runs = []
    for c, k in sorted(classes.items()):
        if class_runs and class_runs[-1][1:] == [c - 1, k]:
            class_runs[-1][1] = c
        else:
            class_runs.append([c, c, k])
    rows("kClasses", "CombiningClass", [f"{{0x{a:X},0x{b:X},{k}}}" for a, b, k in class_runs])
    rows("kCompositions", "Composition", [f"{{0x{a:X},0x{b:X},0x{c:X}}}" for (a, b), c in sorted(pairs.items())])
    print("// clang-format on")
    print(f"{len(runs)} runs, {len(lowered)} lower, {len(canonical)} NFD, {len(compatible)} NFKD, {len(classes)} classes, "
          f"{len(pairs)} pairs", file=sys.stderr)


if __name__ == "__main__":
    main()
