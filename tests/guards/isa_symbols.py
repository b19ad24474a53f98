"""Objects built for one instruction set define symbols only in their own namespace: python3 isa_symbols.py NM ISA OBJECT...
A shared inline function or std:: template compiled with -mavx512f and chosen by the linker would crash baseline machines. The objects are
built with -O0, since optimisers inline leaks away by chance. Fails when an object is missing or defines nothing.
"""
import re
import subprocess
import sys


def leaks(nm, isa, path):
    """Sentences about symbols of the object file that other objects could pick up, or about its absence."""
    done = subprocess.run([nm, "--defined-only", "--extern-only", "--format=posix", path], capture_output=True, text=True)
    if done.returncode:
        return [f"{path}: nm failed: {done.stderr.strip()}"]
    names = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    if not names:
        return [f"{path}: defines no symbol, so nothing was checked"]
    own = re.compile(rf"DW\.ref\.|_Z(?:T[VIST]|G[VR])?[ZNKVrO]*5ocior{len(isa)}{isa}")   # data, or Itanium mangling of ocior::<isa>::
    bad = [n for n in names if not own.match(n)]
    plain = subprocess.run(["c++filt"], input="\n".join(bad), capture_output=True, text=True).stdout.splitlines() if bad else []
    return [f"{path}: defines {name}, which is not in ocior::{isa}" for name in plain]


def main():
    nm, isa, objects = sys.argv[1], sys.argv[2], [p for p in ";".join(sys.argv[3:]).split(";") if p]
    found = [] if objects else [f"no objects for {isa}: the guard has nothing to check"]
    for path in objects:
        found += leaks(nm, isa, path)
    print("\n".join(found) if found else f"{isa}: {len(objects)} objects define symbols in ocior::{isa} only")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
