"""Each guard must find a planted violation and pass a clean tree: python3 guards_test.py"""
import pathlib
import subprocess
import tempfile
import unittest

import exports
import guards
import isa_symbols

CLEAN = {
    "include/ocior/status.h": "// Status.\n",
    "include/ocior/dtype.h": "// Types.\n",
    "include/ocior/value.h": '// Values.\n#include "ocior/dtype.h"\n',
    "include/ocior/session.h": '// Sessions.\n#include "ocior/value.h"\n',
    "src/base/a.h": '// Base.\n#include "ocior/status.h"\n#include <vector>\n',
    "src/tensor/t.h": '// Tensor.\n#include "base/a.h"\n#include "ocior/value.h"\n',
    "src/graph/g.h": '// Graph.\n#include "tensor/t.h"\n',
    "src/simd/vec.h": "// Vectors.\n#include <immintrin.h>\n",
    "src/kernels/k.cpp": '// Kernel.\n#include "simd/vec.h"\n#include <stdint.h>\n',
    "src/kernels/cpu.cpp": "// Choice.\n#include <string>\n",
    "src/onnx/model.h": "// Structs.\n",
    "src/onnx/other.h": "// Else.\n",
    "src/ops/all.inc": "// Manifest.\nOP(Abs)\nOP(Add)\n",
    "src/ops/math/abs.cpp": '// Abs.\n#include "graph/g.h"\nOCIOR_OPERATOR(Abs)\nOCIOR_OPERATOR(Add)\n',
    "src/ops/math/abs_test.cpp": '// Test.\n#include <cstdio>\nint f() { std::printf("x"); }\n',
    "src/run/session.cpp": '// Run.\n#include "ocior/session.h"\n#include "ops/all.inc"\n',
    "src/text/x.cpp": '// Text.\n#include "ocior/session.h"\n#include "base/a.h"\n',
    "src/checkpoint/x.cpp": '// Checkpoint.\n#include "onnx/model.h"\n',
    "README.md": "# X\n[b](docs/b.md) and `src/ops/all.inc` and [c](https://c.example)\n",
    "docs/b.md": "# B\n```diff file=src/ops/all.inc\n@@ -1 +1 @@\n // Manifest.\n+OP(Abs)\n```\n```cpp file=src/ops/all.inc\nOP(Abs)\nOP(Add)\n```\n",
    "tools/cli/main.cpp": '// Tool.\n#include "ocior/session.h"\nint main() { exit(1); }\n',
}


class Tree(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)
        for path, text in CLEAN.items():
            self.put(path, text)

    def tearDown(self):
        self.folder.cleanup()

    def put(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def finds(self, rule, *starts):
        found = list(guards.RULES[rule](self.root))
        self.assertEqual(len(found), len(starts), found)
        for got, start in zip(found, starts):
            self.assertTrue(got.startswith(start), got)


class Rules(Tree):
    def test_a_clean_tree_passes(self):
        for rule in guards.RULES:
            self.finds(rule)

    def test_upward_includes(self):
        upward = [("src/base/b.h", "tensor/t.h"), ("src/tensor/u.cpp", "graph/g.h"), ("src/graph/h.cpp", "ops/all.inc"),
                  ("src/kernels/l.cpp", "tensor/t.h"), ("src/kernels/m.cpp", "ocior/value.h"), ("src/simd/w.h", "kernels/k.cpp"),
                  ("src/ops/o.cpp", "onnx/model.h"), ("src/onnx/p.cpp", "run/session.cpp"), ("src/passes/q.cpp", "onnx/model.h"),
                  ("src/plan/r.cpp", "ocior/session.h"), ("src/text/s.cpp", "graph/g.h"), ("src/checkpoint/y.cpp", "onnx/other.h"),
                  ("include/ocior/z.h", "base/a.h"), ("tools/cli/v.cpp", "graph/g.h"), ("bindings/python/m.cpp", "base/a.h")]
        for path, target in upward:
            with self.subTest(path=path):
                self.put(path, f'// Planted.\n\n#include "{target}"\n')
                self.finds("layers", f"{path}:3: includes {target}")
                (self.root / path).unlink()

    def test_system_headers_in_per_isa_files(self):
        self.put("src/kernels/k.cpp", "// Kernel.\n#include <algorithm>\n")
        self.finds("layers", "src/kernels/k.cpp:2: includes algorithm")

    def test_missing_headers(self):
        self.put("src/base/a.h", '// Base.\n#include "base/gone.h"\n')
        self.finds("layers", "src/base/a.h:2: includes base/gone.h")

    def test_the_manifest(self):
        self.put("src/ops/math/neg.cpp", "// Neg.\nOCIOR_OPERATOR(Neg)\n")
        self.finds("manifest", "src/ops/math/neg.cpp:2: operator Neg is not in")
        self.put("src/ops/all.inc", "// Manifest.\nOP(Abs)\nOP(Neg)\nOP(Add)\nOP(Gone)\n")
        self.finds("manifest", "src/ops/all.inc:4: OP(Add) is out of", "src/ops/all.inc:5: OP(Gone) has no")
        self.put("src/ops/all.inc", "// Manifest.\nOP(Abs)\nOP(Add)\nOP(Neg)\nOP(Neg)\n")
        self.finds("manifest", "src/ops/all.inc:5: OP(Neg) is out of")

    def test_length_and_opening(self):
        self.put("src/base/big.cpp", "// Big.\n" + "int x;\n" * 500)
        self.finds("length", "src/base/big.cpp:501: has 501 lines")
        self.put("src/base/big.cpp", "// One table of all cases: long, because splitting it would hide gaps.\n" + "int x;\n" * 500)
        self.finds("length")
        self.put("src/base/big.cpp", "#pragma once\n")
        self.finds("length", "src/base/big.cpp:1: does not open")
        self.put("src/base/big.cpp", '#include "base/big.h"\n')
        self.finds("length")

    def test_printing_and_exits(self):
        for text in ("std::abort();", "abort();", "exit(1);", "std::printf(\"x\");", "fprintf(stderr, \"x\");", "std::cout << 1;", "std::cerr << 1;",
                     "puts(\"x\");", "std::terminate();", "_exit(2);"):
            with self.subTest(text=text):
                self.put("src/base/loud.cpp", f"// Loud.\nvoid f() {{ {text} }}\n")
                self.finds("silence", "src/base/loud.cpp:2: ")
        self.put("src/base/loud.cpp", "// Loud.\nvoid f() { std::snprintf(b, 1, x); options.terminate(); }  // printf(x) is not used\n")
        self.finds("silence")

    def test_places(self):
        for text in ("/" + "work/main/x", "/" + "root/venv", "see " + "pypi" + ".org/simple", "TO" + "DO: more"):
            with self.subTest(text=text):
                self.put("docs/x.md", f"# X\n{text}\n")
                self.finds("places", "docs/x.md:2: ")

    def test_pages(self):
        self.put("README.md", "# X\n[b](docs/gone.md) `src/gone.cpp`\n```sh\n`src/not_looked_at`\n```\n")
        self.finds("docs", "README.md:2: names docs/gone.md", "README.md:2: names src/gone.cpp")
        self.put("README.md", "# X\n")
        self.put("docs/b.md", "# B\n```diff file=src/ops/all.inc\n+OP(Neg)\n```\n```cpp file=src/gone.cpp\nint x;\n```\n")
        self.finds("docs", "docs/b.md:2: the block is not", "docs/b.md:5: quotes src/gone.cpp")

    def test_missing_subjects_fail(self):
        for path in CLEAN:
            (self.root / path).unlink()
        self.finds("docs", "docs: no pages")
        self.finds("layers", "src: no source files")
        self.finds("silence", "src: no source files")
        with self.assertRaises(OSError):
            list(guards.manifest(self.root))


class Symbols(Tree):
    def compile(self, text):
        self.put("shared.h", "namespace ocior { inline int twice(int x) { return 2 * x; } }\n")
        self.put("k.cpp", text)
        target = self.root / "k.o"
        subprocess.run(["g++", "-std=c++20", "-O0", "-c", self.root / "k.cpp", "-o", target], check=True)
        return str(target)

    def test_own_names_pass(self):
        own = ("namespace ocior::avx2 { namespace { int hidden(int x) { return x; } }\n"
               "template <class T> T same(T x) { static T seen = x; return seen; }\nstruct Table { virtual ~Table() = default; };\n"
               "extern const int kTable; const int kTable = 3;\nint f(int x) { Table t; auto g = [](int y) { return hidden(y); }; return g(same(x)); } }\n")
        self.assertEqual(isa_symbols.leaks("nm", "avx2", self.compile(own)), [])

    def test_shared_inline_functions_leak(self):
        found = isa_symbols.leaks("nm", "avx2", self.compile('#include "shared.h"\nnamespace ocior::avx2 { int f(int x) { return ocior::twice(x); } }\n'))
        self.assertEqual(len(found), 1)
        self.assertIn("ocior::twice(int)", found[0])

    def test_standard_templates_leak(self):
        found = isa_symbols.leaks("nm", "avx2", self.compile("#include <algorithm>\nnamespace ocior::avx2 { void f(int* x) { std::sort(x, x + 9); } }\n"))
        self.assertTrue(any("std::" in line for line in found))

    def test_another_tables_name_leaks(self):
        self.assertEqual(len(isa_symbols.leaks("nm", "avx2", self.compile("namespace ocior::avx512 { int f() { return 1; } }\n"))), 1)

    def test_missing_subjects_fail(self):
        self.assertEqual(len(isa_symbols.leaks("nm", "avx2", str(self.root / "gone.o"))), 1)
        self.assertEqual(len(isa_symbols.leaks("nm", "avx2", self.compile("static int hidden = 1;\n"))), 1)


class Exports(unittest.TestCase):
    def test_surplus_names(self):
        header = ["class Session { Status run(); };"]
        self.assertEqual(list(exports.surplus(["ocior::Session::run()", "typeinfo for ocior::Session"], header)), [])
        for name in ("ocior::ops::find()", "ocior::Hidden::f()", "fmt::v9::vformat()", "crc32", "void std::sort<int*>(int*, int*)"):
            self.assertEqual(len(list(exports.surplus([name], header))), 1, name)


if __name__ == "__main__":
    unittest.main()
