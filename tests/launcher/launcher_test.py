"""The launcher `ocior` in a small project of its own: builds once, rebuilds after a change, runs from anywhere and at once, reports failures.
python3 launcher_test.py
"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROJECT = """cmake_minimum_required(VERSION 3.25)
project(small LANGUAGES CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
file(GLOB sources CONFIGURE_DEPENDS src/*.cpp)
add_executable(ocior_cli ${sources})
set_target_properties(ocior_cli PROPERTIES OUTPUT_NAME ocior)
"""
MAIN = '#include <cstdio>\nint main(int n, char** a) { std::printf("%s %s\\n", "first", n > 1 ? a[1] : ""); return n > 2 ? 7 : 0; }\n'


class Launcher(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name) / "check out"
        for name in ("cmake", "include", "src", "tools", "scripts"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(ROOT / "ocior", self.root)
        shutil.copy(ROOT / "scripts" / "setup.sh", self.root / "scripts")
        (self.root / "scripts" / "packages.txt").write_text("# none but one that every Debian has\ncoreutils\n")
        (self.root / "CMakeLists.txt").write_text(PROJECT)
        (self.root / "src" / "main.cpp").write_text(MAIN)

    def tearDown(self):
        self.folder.cleanup()

    def start(self, *arguments, program=None, cwd="/"):
        return subprocess.Popen([program or self.root / "ocior", *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def go(self, *arguments, **options):
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def test_builds_once_and_passes_arguments_and_exit_codes(self):
        code, out, err = self.go("a b")
        self.assertEqual((code, out), (0, "first a b\n"), err)
        self.assertIn("building once", err)
        self.assertEqual(self.go("x", "y"), (7, "first x\n", ""))

    def test_starts_quickly_once_built(self):
        self.go()
        best = min(self.timed() for _ in range(10))
        self.assertLess(best, 0.030)

    def timed(self):
        start = time.monotonic()
        self.go()
        return time.monotonic() - start

    def test_rebuilds_when_a_source_changes_or_goes(self):
        self.go()
        (self.root / "src" / "main.cpp").write_text(MAIN.replace("first", "second"))
        code, out, err = self.go("x")
        self.assertEqual((code, out), (0, "second x\n"), err)
        self.assertIn("sources changed", err)
        (self.root / "src" / "main.cpp").rename(self.root / "src" / "other.cpp")
        self.assertEqual(self.go("x")[:2], (0, "second x\n"))
        self.assertEqual(self.go("x")[2], "")

    def test_works_through_a_symlink_and_after_a_move(self):
        self.go()
        link = self.root.parent / "link"
        link.symlink_to(self.root / "ocior")
        self.assertEqual(self.go("x", program=link, cwd=self.root.parent), (0, "first x\n", ""))
        moved = self.root.parent / "moved"
        self.root.rename(moved)
        (moved / "src" / "main.cpp").write_text(MAIN.replace("first", "third"))
        code, out, err = self.go("x", program=moved / "ocior")
        self.assertEqual((code, out), (0, "third x\n"), err)

    def test_many_at_once_build_once(self):
        started = [self.start(str(i)) for i in range(4)]
        ended = [(p.communicate(timeout=300), p.returncode) for p in started]
        self.assertEqual([(out, code) for (out, _), code in ended], [(f"first {i}\n", 0) for i in range(4)], ended)
        self.assertEqual(sum("built in" in err for (_, err), _ in ended), 1)

    def test_a_failed_build_says_why_and_is_tried_again(self):
        (self.root / "src" / "main.cpp").write_text("this is no program\n")
        code, out, err = self.go()
        self.assertEqual((code, out), (69, ""))
        self.assertIn("the build failed", err)
        self.assertIn("no program", err)
        (self.root / "src" / "main.cpp").write_text(MAIN)
        self.assertEqual(self.go("x")[:2], (0, "first x\n"))

    def test_a_missing_package_without_root_is_named(self):
        (self.root / "scripts" / "packages.txt").write_text("no-such-package-anywhere\n")
        tools = pathlib.Path(self.folder.name) / "bin"   # a PATH with an unprivileged id and without sudo
        tools.mkdir()
        for name in ("bash", "env", "readlink", "dirname", "find", "mkdir", "mktemp", "flock", "sed", "grep", "xargs", "rm", "dpkg-query"):
            (tools / name).symlink_to(shutil.which(name))
        (tools / "id").write_text("#!/usr/bin/env bash\necho 1000\n")
        (tools / "id").chmod(0o755)
        done = subprocess.run([self.root / "ocior"], capture_output=True, text=True, env={**os.environ, "PATH": str(tools)})
        self.assertEqual(done.returncode, 69)
        self.assertIn("needs root: apt-get install no-such-package-anywhere", done.stderr)


if __name__ == "__main__":
    unittest.main()
