"""Rules of the house that a compiler does not check, read from the sources: python3 guards.py ROOT RULE...
Prints file:line and a sentence for each violation and exits 1 when there is one. A rule whose subject is missing fails.
guards_test.py plants a violation of each. Standard library only.
"""
import pathlib
import re
import sys

# What the files of a folder may include besides their own folder. One way: src/kernels sees neither tensors nor graphs, and so on up.
BELOW = {
    "src/base": [],
    "src/tensor": ["src/base"],
    "src/simd": [],
    "src/kernels": ["src/simd"],
    "src/graph": ["src/base", "src/tensor"],
    "src/gpu": ["src/base", "src/tensor"],
    "src/ops": ["src/base", "src/tensor", "src/graph", "src/kernels"],
    "src/onnx": ["src/base", "src/tensor", "src/graph", "src/ops"],
    "src/passes": ["src/base", "src/tensor", "src/graph", "src/ops"],
    "src/plan": ["src/base", "src/tensor", "src/graph", "src/ops", "src/kernels", "src/gpu", "src/onnx", "src/passes"],
    "src/run": ["src/base", "src/tensor", "src/graph", "src/ops", "src/kernels", "src/gpu", "src/onnx", "src/passes", "src/plan"],
    "src/text": ["src/base"],
    "src/checkpoint": ["src/base", "src/onnx/model.h"],
    "include/ocior": [],
    # The executable links the layers statically, so it has one copy of base; still only its plain helpers, never the pool.
    "tools": ["src/text", "src/checkpoint", "src/onnx/model.h", "src/base/error.h", "src/base/atomic_file.h", "src/base/mapped_file.h",
              "src/base/hash.h", "src/onnx/read_value.h", "src/run/compare.h"],
    "bindings": [],
}
# The public headers are the top, but for these: plain types that anyone may use, and values, which src/tensor implements.
ANYONE = {"include/ocior/status.h", "include/ocior/dtype.h"}
VALUES = {"include/ocior/value.h": {"src/base", "src/simd", "src/kernels"}}   # not for these
PUBLIC_USERS = {"src/run", "src/text", "src/checkpoint", "tools", "bindings", "include/ocior"}
# Files of src/kernels that are compiled once, not per instruction set; the others include leaf headers only.
KERNELS_ONCE = {"table_select.cpp", "cpu.cpp", "cpu.h"}
LEAF_SYSTEM = {"stddef.h", "stdint.h", "string.h", "limits.h", "float.h", "immintrin.h", "arm_neon.h", "arm_sve.h", "arm_acle.h"}

SOURCE = (".cpp", ".h", ".inc", ".cu", ".cl")
LIMIT = 500


def files(root, folders, suffixes=SOURCE):
    """Source files below the folders, relative to root, in order."""
    found = []
    for folder in folders:
        found += [p.relative_to(root) for p in sorted((root / folder).rglob("*")) if p.suffix in suffixes and p.is_file()]
    return found


def lines(root, path):
    return (root / path).read_text(encoding="utf-8", errors="replace").splitlines()


def code(line):
    """The line without its // comment."""
    return re.sub(r"//.*", "", line)


def is_test(path):
    return re.search(r"_(test|fuzz)\.cpp$|^test(ing)?(_\w+)?\.h$", path.name) is not None


def owner(path):
    """The folder of BELOW that a file belongs to."""
    return next((f for f in BELOW if str(path).startswith(f + "/")), None)


def resolve(root, path, name):
    """The file of the project that an include names, or None."""
    for base in (root / "src", root / "include", (root / path).parent):
        target = base / name
        if target.is_file():
            return target.resolve().relative_to(root.resolve())
    return None


def may_include(path, target):
    """None, or the reason why `path` may not include the project's `target`."""
    here, there, name = owner(path), owner(target), str(target)
    if there == here or here is None or name in ANYONE:
        return None
    if name in VALUES:
        return f"{here} knows no tensors" if here in VALUES[name] else None
    if there == "include/ocior":
        return None if here in PUBLIC_USERS else f"the public API stands above {here}"
    if there in BELOW[here] or name in BELOW[here]:
        return None
    return f"{here} may include only {', '.join(BELOW[here] + ['the plain public headers'])}"


def layers(root):
    """Includes point one way."""
    sources = files(root, BELOW)
    if not sources:
        yield "src: no source files; the layers cannot be checked"
    for path in sources:
        per_isa = owner(path) in ("src/kernels", "src/simd") and path.name not in KERNELS_ONCE and not is_test(path)
        for number, line in enumerate(lines(root, path), 1):
            found = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if not found:
                continue
            target = resolve(root, path, found[2])
            reason = None
            if target:
                reason = may_include(path, target)
            elif found[1] == '"' and owner(path) and path.parts[0] == "src":
                reason = "there is no such file in src or include"
            elif per_isa and found[2] not in LEAF_SYSTEM:
                reason = "files that are compiled once per instruction set include leaf headers only (no std:: templates)"
            if reason:
                yield f"{path}:{number}: includes {found[2]}, but {reason}"


def manifest(root):
    """Each operator of src/ops is in src/ops/all.inc once, in order, and the other way round."""
    inc = pathlib.Path("src/ops/all.inc")
    listed = [(n, m[1]) for n, line in enumerate(lines(root, inc), 1) if (m := re.match(r"OP\((\w+)\)", line))]
    defined = {}
    for path in files(root, ["src/ops"], (".cpp",)):
        if is_test(path):
            continue
        for number, line in enumerate(lines(root, path), 1):
            for name in re.findall(r"^\s*OCIOR_OPERATOR\((\w+)\)", line):
                if name in defined:
                    yield f"{path}:{number}: operator {name} is also in {defined[name]}"
                defined[name] = f"{path}:{number}"
    if not defined:
        yield "src/ops: no OCIOR_OPERATOR(...) found; the manifest cannot be checked"
    names = [name for _, name in listed]
    for name, place in defined.items():
        if name not in names:
            yield f"{place}: operator {name} is not in {inc}; add the line OP({name})"
    for at, (number, name) in enumerate(listed):
        if name not in defined:
            yield f"{inc}:{number}: OP({name}) has no OCIOR_OPERATOR({name}) in src/ops"
        if name in names[:at] or (at and name.lower() < names[at - 1].lower()):
            yield f"{inc}:{number}: OP({name}) is out of alphabetical order or twice"


def length(root):
    """A file over 500 lines says why in its opening comment (with the word `long` or `lines`); every source opens with one,
    or with its own header that does."""
    for path in files(root, ["src", "include", "tools", "bindings", "tests", "bench", "scripts"], (".cpp", ".h", ".py", ".cu", ".cl")):
        text = lines(root, path)
        opening = "\n".join(text[:8])
        if len(text) > LIMIT and not re.search(r"\b(long|lines)\b", opening, re.I):
            yield f"{path}:{len(text)}: has {len(text)} lines, more than {LIMIT}, and its opening comment does not say why it is long"
        explained = text and (text[0].startswith("//") or text[0].startswith("#include") and text[0].endswith(f'{path.stem}.h"'))
        if path.suffix != ".py" and not is_test(path) and not explained:
            yield f"{path}:1: does not open with a comment that says what the file is for"


def silence(root):
    """The library never prints and never ends the process."""
    banned = re.compile(r"\b(?:std::)?(abort|exit|_exit|_Exit|quick_exit|std::terminate)\s*\(\s*\w*\s*\)|\b(v?f?printf|puts|fputs|perror)\s*\(|\bstd::(cout|cerr|clog)\b")
    sources = [p for p in files(root, ["src", "include"]) if not is_test(p)]
    if not sources:
        yield "src: no source files; the library's silence cannot be checked"
    for path in sources:
        for number, line in enumerate(lines(root, path), 1):
            text = code(line)
            found = banned.search(text)
            if found and not re.search(r"[.>]\s*$", text[: found.start()]):
                yield f"{path}:{number}: '{found[0]}': the library never prints, aborts or exits; return a Status"


def places(root):
    """No machine paths, no package registries, nothing left to do."""
    banned = [
        (re.compile(r"/[w]ork/(main|shared)|/[r]oot/|/[h]ome/\w+/|[a-z]:\\\\[u]sers", re.I), "names a place of one machine"),
        (re.compile(r"\b(?:[p]ypi\.org|files\.[p]ythonhosted|deb\.[d]ebian\.org|registry\.[n]pmjs|[a]rtifactory|extra-[i]ndex-url)", re.I),
         "names a package registry; the machine's own configuration does"),
        (re.compile(r"\b(?:[T]ODO|[F]IXME|[X]XX)\b"), "leaves something to do; do it or drop it"),
    ]
    kinds = SOURCE + (".py", ".md", ".txt", ".sh", ".cmake", ".toml", ".json", ".yaml", ".yml", ".html", ".js", ".css", "")
    top = [p for p in root.iterdir() if p.is_file()] if root.is_dir() else []
    inside = [root / p for p in files(root, [f for f in ("src", "include", "tools", "bindings", "tests", "bench", "scripts", "docs", "cmake", "server", ".ci")], kinds)]
    for path in sorted(top + inside):
        if path.suffix not in kinds or path.stat().st_size > 1 << 20 or "__pycache__" in path.parts:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            for pattern, reason in banned:
                if found := pattern.search(line):
                    yield f"{path.relative_to(root)}:{number}: '{found[0]}' {reason}"


def quote(text):
    """What a fenced block says that a file holds: a diff's added and kept lines, or the block itself."""
    if any(line.startswith(("@@", "+")) for line in text):
        text = [line[1:] for line in text if not line.startswith(("@@", "-", "+++"))]
    return "\n".join(line.rstrip() for line in text)


def docs(root):
    """Pages name files that exist, and blocks fenced as ```LANGUAGE file=PATH are what that file says."""
    pages = sorted(root.glob("*.md")) + sorted((root / "docs").rglob("*.md"))
    if not pages:
        yield "docs: no pages; nothing was checked"
    for page in pages:
        path, fence = page.relative_to(root), None
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if line.startswith("```"):
                if fence:
                    target, start, text = fence
                    if target and not (root / target).is_file():
                        yield f"{path}:{start}: quotes {target}, which does not exist"
                    elif target and quote(text) not in "\n".join(l.rstrip() for l in lines(root, target)):
                        yield f"{path}:{start}: the block is not what {target} says"
                    fence = None
                else:
                    named = re.search(r"\bfile=(\S+)", line)
                    fence = (named and named[1], number, [])
                continue
            if fence:
                fence[2].append(line)
                continue
            named = re.findall(r"\]\((?![a-z]+:|#)([^)#]+)", line)
            inside = [(page.parent / n, n) for n in named]
            inside += [(root / n, n) for n in re.findall(r"`((?:src|include|tools|bindings|tests|docs|scripts|cmake|bench)/[\w./-]*\w)`", line)]
            for target, name in inside:
                if not target.exists():
                    yield f"{path}:{number}: names {name}, which does not exist"


RULES = {f.__name__: f for f in (layers, manifest, length, silence, places, docs)}


def main():
    root, names = pathlib.Path(sys.argv[1]), sys.argv[2:] or list(RULES)
    violations = []
    for name in names:
        try:
            violations += RULES[name](root)
        except OSError as error:
            violations.append(f"{error.filename}:1: rule {name} cannot read its subject ({error.strerror})")
    print("\n".join(violations) if violations else f"{', '.join(names)}: kept")
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
