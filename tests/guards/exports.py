"""The shared library exports the public API and nothing else: python3 exports.py NM LIBRARY HEADER_FOLDER
An exported name must be in namespace ocior, outside the engine's inner namespaces, and its class or function must stand in a public header.
"""
import pathlib
import re
import subprocess
import sys

INNER = ("base", "tensor", "graph", "ops", "onnx", "passes", "plan", "run", "gpu", "text", "checkpoint", "generic", "avx2", "avx512", "amx")


def surplus(names, headers):
    """Demangled names that a public library should not export."""
    text = "\n".join(headers)
    for name in names:
        plain = re.sub(r"^(vtable|typeinfo name|typeinfo|VTT|guard variable) for ", "", name)
        found = re.match(r"(?:[\w:<>,&* ]+ )?ocior::(\w+)", plain)
        if not found or found[1] in INNER:
            yield f"{name} is exported but is not part of the public API"
        elif not re.search(rf"\b{re.escape(found[1])}\b", text):
            yield f"{name} is exported but no public header declares {found[1]}"


def main():
    nm, library, folder = sys.argv[1:]
    done = subprocess.run([nm, "-D", "-C", "--defined-only", "--format=posix", library], capture_output=True, text=True)
    names = [re.sub(r"(@@?[\w.]+)?\s+[A-Za-z]( [0-9a-f]+)*\s*$", "", line) for line in done.stdout.splitlines()]
    headers = [p.read_text() for p in sorted(pathlib.Path(folder).glob("*.h"))]
    found = [done.stderr.strip()] if done.returncode else list(surplus(names, headers))
    if not names or not headers:
        found.append(f"{library} exports nothing or {folder} has no headers: nothing was checked")
    print("\n".join(found) if found else f"{len(names)} exported symbols, all public")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
