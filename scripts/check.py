"""The phases of ./check, in order. Each prints its name, time and result; logs are in build/check/; the last line counts what passed.
Run it through ./check, which installs the Debian packages first. Standard library only.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
LOGS = BUILD / "check"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
ACCEPT = ROOT.parent / "shared" / "accept"
MUTANTS = 20000            # mutated models per reader in the sanitizer build
FUZZ_SECONDS = 120         # per fuzz target of --long
DIFFERENTIAL_SECONDS = 600    # of --long's comparison of operators with their references
ONNX_SUITE_FLOOR = 2011       # official ONNX cases that must pass


class Failed(Exception):
    """A phase that did not pass; the text says what."""


class Skipped(Exception):
    """A phase that does not apply here; the text says why."""


class Phase:
    """One phase's log, counts and commands."""

    def __init__(self, name):
        self.name, self.passed, self.failed = name, 0, 0
        self.log = LOGS / f"{name}.log"
        self.log.write_text("")

    def run(self, *command, env=None, cwd=ROOT, check=True):
        """Runs a command with its output in the log; returns (exit code, output). With `check`, failure ends the phase."""
        with self.log.open("a+b") as log:
            log.write(("$ " + " ".join(map(str, command)) + "\n").encode())
            log.flush()
            start = log.tell()
            code = subprocess.run([str(c) for c in command], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                  cwd=cwd, env={**os.environ, **(env or {})}).returncode
            log.seek(start)
            text = log.read().decode(errors="replace")
        if code and check:
            raise Failed(f"{pathlib.Path(str(command[0])).name} exited with {code}")
        return code, text

    def shell(self, function, *arguments):
        """Runs a function of scripts/setup.sh."""
        return self.run("bash", "-c", 'root=$1; . "$root/scripts/setup.sh"; shift; set -eo pipefail; "$@"', "setup", ROOT, function, *arguments)

    def count(self, passed, failed):
        self.passed += passed
        self.failed += failed

    def build(self, folder, targets, *options):
        """Configures and builds under the lock that ./ocior takes too."""
        folder.mkdir(exist_ok=True)
        self.shell("configure", folder, *options)
        jobs = self.shell("jobs_here")[1].split()[-1]
        command = ["cmake", "--build", folder, "-j", jobs] + (["--target", *targets] if targets else [])
        self.run("flock", folder / ".lock", *command)

    def ctest(self, folder, *options, env=None):
        """Runs ctest; counts GoogleTest cases one by one and other tests as one each."""
        reports = folder / "check-reports"
        shutil.rmtree(reports, ignore_errors=True)
        junit = folder / "check-ctest.xml"
        junit.unlink(missing_ok=True)
        code, _ = self.run("ctest", "--test-dir", folder, "--output-on-failure", "--no-tests=error", "--timeout", "1500", "-j", str(os.cpu_count()),
                           "--output-junit", junit, *options, env={"GTEST_OUTPUT": f"xml:{reports}/", **(env or {})}, check=False)
        cases = failed = 0
        for report in reports.glob("*.xml"):
            suite = ElementTree.parse(report).getroot()
            cases += int(suite.get("tests", 0)) - int(suite.get("disabled", 0))
            failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        for case in ElementTree.parse(junit).getroot().iter("testcase") if junit.exists() else ():
            text, broken = "".join(case.itertext()), case.get("status") == "fail"
            if "[==========]" not in text or (broken and "[  FAILED  ]" not in text):   # no GoogleTest, or one that crashed
                cases, failed = cases + 1, failed + broken
        self.count(cases - failed, failed)
        if code:
            raise Failed(f"{failed} of {cases} tests failed" if cases else "ctest found no test")
        return f"{cases} tests"


def setup(phase):
    requirements = ROOT / "scripts" / "requirements-test.txt"
    done = VENV / ".requirements"
    if done.exists() and done.read_text() == requirements.read_text():
        return "packages are there"
    if not PYTHON.exists():
        phase.run(sys.executable, "-m", "venv", VENV)
    phase.run(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r", requirements)
    done.write_text(requirements.read_text())
    return "packages installed"


def formatted(phase):
    files = subprocess.run(["git", "ls-files", "*.cpp", "*.h"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    code, text = phase.run("clang-format-14", "--dry-run", *files, check=False)
    bad = sorted({line.split(":")[0] for line in text.splitlines() if "warning: code should be clang-formatted" in line})
    phase.count(len(files) - len(bad), len(bad))
    if code or bad:
        raise Failed(f"{len(bad)} files differ from .clang-format, first {', '.join(bad[:3])}; run clang-format-14 -i on them")
    return f"{len(files)} files"


def release(phase):
    phase.build(BUILD, [], "-DCMAKE_BUILD_TYPE=Release", "-DOCIOR_TESTS=ON", "-DOCIOR_TOOLS=ON", f"-DOCIOR_REFERENCE_PYTHON={PYTHON}")
    return "built"


def tests(phase):
    return phase.ctest(BUILD, env={"OCIOR_PYTHON": str(PYTHON)})


def python(phase):
    if not (ROOT / "pyproject.toml").exists():
        raise Skipped("there is no pyproject.toml")
    # The module is made of the same objects as the release build: the compiler cache gives them again if the compiler has the same name.
    compiler = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.+)$", (BUILD / "CMakeCache.txt").read_text(), re.MULTILINE).group(1)
    phase.run(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-build-isolation", ".",
              env={"CXX": compiler, **({"CMAKE_CXX_COMPILER_LAUNCHER": "ccache"} if shutil.which("ccache") else {})})
    return run_pytest(phase)


def run_pytest(phase, env=None):
    _, text = phase.run(PYTHON, "-m", "pytest", "-q", "-ra", "tests/python", env=env, check=False)
    totals = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", text.rsplit("\n", 2)[-2] if "\n" in text else "")}
    bad = totals.get("failed", 0) + totals.get("error", 0)
    phase.count(totals.get("passed", 0), bad)
    if bad or not totals.get("passed"):
        raise Failed(f"{bad} tests failed, {totals.get('passed', 0)} passed")
    return f"{totals['passed']} tests"


def onnx_suite(phase):
    need_accept()
    _, text = phase.run(PYTHON, ACCEPT / "onnx_suite.py", "ocior", "--failures", LOGS / "onnx_failures.json")
    passed, total = map(int, re.search(r"(\d+) of (\d+) passed", text).groups())
    phase.count(passed, max(0, ONNX_SUITE_FLOOR - passed))
    if passed < ONNX_SUITE_FLOOR:
        raise Failed(f"{passed} of {total} official cases pass; {ONNX_SUITE_FLOOR} must")
    return f"{passed} of {total} official cases"


def questions(phase):
    need_accept()
    _, text = phase.run(PYTHON, ACCEPT / "qa.py", ACCEPT / "qa_golden.jsonl", "0.995", "--", ROOT / "ocior", "ask", "--batch", "{in}", "--json")
    phase.count(1, 0)
    return text.strip().splitlines()[-1]


def need_accept():
    if not ACCEPT.is_dir():
        raise Skipped(f"the acceptance scripts are not beside this checkout ({ACCEPT.relative_to(ROOT.parent)})")


def asan(phase):
    folder = ROOT / "build-asan"
    phase.build(folder, [], "-DCMAKE_BUILD_TYPE=Check", "-DCMAKE_CXX_FLAGS_CHECK=-O1 -g1", "-DOCIOR_SANITIZE=address", "-DOCIOR_MAX_ISA=avx2")
    return phase.ctest(folder, env={
        "OCIOR_MUTANTS": str(MUTANTS), "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"})


def tsan(phase):
    folder = ROOT / "build-tsan"
    shared = sorted(p.stem for p in (ROOT / "tests").glob("*_test.cpp") if re.search("thread|session|concurren", p.stem))
    targets = ["base_test"] + (["run_test"] if list((ROOT / "src/run").glob("*_test.cpp")) else []) + shared
    phase.build(folder, targets, "-DCMAKE_BUILD_TYPE=Check", "-DCMAKE_CXX_FLAGS_CHECK=-O1 -g1", "-DOCIOR_SANITIZE=thread", "-DOCIOR_MAX_ISA=avx2",
                "-DOCIOR_TOOLS=OFF")
    return phase.ctest(folder, "-R", "^(" + "|".join(t.removesuffix("_test") if t in ("base_test", "run_test") else t for t in targets) + ")$",
                       env={"TSAN_OPTIONS": "halt_on_error=1"})


def fuzz(phase):
    folder = ROOT / "build-fuzz"
    phase.build(folder, [], "-DCMAKE_CXX_COMPILER=clang++-14", "-DCMAKE_BUILD_TYPE=Check", "-DCMAKE_CXX_FLAGS_CHECK=-O1 -g1 -fsanitize=fuzzer-no-link",
                "-DOCIOR_SANITIZE=address", "-DOCIOR_MAX_ISA=avx2", "-DOCIOR_FUZZERS=ON", "-DOCIOR_TESTS=OFF", "-DOCIOR_TOOLS=OFF")
    targets = sorted((folder / "bin").glob("*_fuzz"))
    for target in targets:
        corpus = folder / "corpus" / target.name
        corpus.mkdir(parents=True, exist_ok=True)
        code, _ = phase.run(target, f"-max_total_time={FUZZ_SECONDS}", "-rss_limit_mb=2048", "-timeout=20", f"-artifact_prefix={corpus}/crash-", corpus,
                            check=False)
        phase.count(code == 0, code != 0)
    if phase.failed:
        raise Failed(f"{phase.failed} of {len(targets)} fuzzers found something")
    return f"{len(targets)} fuzzers, {FUZZ_SECONDS} s each"


def slow(phase):
    return run_pytest(phase, env={"OCIOR_LONG": "1"})


def differential(phase):
    code, text = phase.run(PYTHON, "tests/python/fuzz_operators.py", "--seconds", str(DIFFERENTIAL_SECONDS), "--seed", str(int(time.time())),
                           "--out", LOGS / "findings", check=False)
    phase.count(code == 0, code != 0)
    if code:
        raise Failed(f"findings are in {(LOGS / 'findings').relative_to(ROOT)}")
    return text.strip().splitlines()[-1]


def speed(phase):
    need_accept()
    _, text = phase.run(PYTHON, ACCEPT / "speed.py")
    print(text)
    phase.count(1, 0)
    return "table above"


PHASES = [setup, formatted, release, tests, python, onnx_suite, questions, asan, tsan]
LONG = [fuzz, slow, differential, speed]
FAST = [setup, release, tests]


def run_phase(function):
    """Returns (name, seconds, result word, note, passed, failed)."""
    phase = Phase(function.__name__)
    start = time.monotonic()
    try:
        word, note = "ok", function(phase)
        if not phase.passed:
            phase.count(1, 0)
    except Skipped as reason:
        word, note = "skipped", str(reason)
    except (Failed, OSError, subprocess.CalledProcessError, AttributeError) as reason:
        word, note = "FAILED", str(reason)
        if not phase.failed:
            phase.count(0, 1)
    seconds = time.monotonic() - start
    if word == "FAILED":
        print("\n".join(phase.log.read_text(errors="replace").splitlines()[-40:]))
        note += f" (log: {phase.log.relative_to(ROOT)})"
    print(f"{phase.name:12} {seconds:7.1f} s  {word:8} {note}", flush=True)
    return phase.name, seconds, word, note, phase.passed, phase.failed


def main():
    names = [f.__name__ for f in PHASES + LONG]
    parser = argparse.ArgumentParser(prog="check", description="Builds and tests everything.", epilog="phases: " + ", ".join(names))
    parser.add_argument("--fast", action="store_true", help="only the release build and its tests")
    parser.add_argument("--long", action="store_true", help="also fuzzers, slow tests and benchmarks")
    parser.add_argument("--only", metavar="A,B", help="only these phases")
    options = parser.parse_args()
    wanted = FAST if options.fast else PHASES + (LONG if options.long else [])
    if options.only:
        chosen = options.only.split(",")
        if unknown := set(chosen) - set(names):
            parser.error(f"unknown phase {', '.join(sorted(unknown))}; phases: {', '.join(names)}")
        wanted = [f for f in PHASES + LONG if f.__name__ in chosen]
    LOGS.mkdir(parents=True, exist_ok=True)
    results = [run_phase(f) for f in wanted]
    print(f"\n{'phase':12} {'time':>9}  result   passed failed")
    for name, seconds, word, _, passed, failed in results:
        print(f"{name:12} {seconds:7.1f} s  {word:8} {passed:6} {failed:6}")
    passed, failed = sum(r[4] for r in results), sum(r[5] for r in results)
    print(f"{sum(r[1] for r in results) / 60:.1f} minutes")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or any(r[2] == "FAILED" for r in results) else 0)


if __name__ == "__main__":
    main()
