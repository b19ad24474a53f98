"""The program `ocior` as people and scripts use it: python3 cli_test.py PROGRAM MODEL_FOLDER. Standard library only.
Every command's way through, and every failure: exit code, one clear sentence, nothing left behind.
Long because it covers every command of one program with one set of helpers.
"""
import json
import os
import pathlib
import pty
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile

import onnx_bytes

PROGRAM, MODEL = (pathlib.Path(a).resolve() for a in sys.argv[1:3])
RIVER = "The river rises in the Black Forest and ends in the sea."
WHERE = "Where does the river rise?"
COMMANDS = ("ask", "chat", "convert", "run", "bench", "info", "explain", "dump", "tokenize", "verify")


def setUpModule():
    global folder, environment
    folder = tempfile.TemporaryDirectory()
    environment = dict(os.environ, OCIOR_CACHE_DIR=folder.name + "/cache", OCIOR_MODEL_DIR=str(MODEL), TERM="xterm")


def tearDownModule():
    folder.cleanup()


def npy(descr, shape, data, order=False):
    header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def read_npy(data):
    length = struct.unpack("<H", data[8:10])[0]
    return eval(data[10:10 + length]), data[10 + length:]


class Case(unittest.TestCase):
    """Each test works in an empty folder of its own."""

    def setUp(self):
        self.own = tempfile.TemporaryDirectory()
        self.cwd = pathlib.Path(self.own.name)

    def tearDown(self):
        self.own.cleanup()

    def go(self, *arguments, stdin="", env=None, **options):
        done = subprocess.run([PROGRAM, *map(str, arguments)], cwd=self.cwd, env={**environment, **(env or {})}, input=stdin, text=True,
                              capture_output=True, timeout=300, **options)
        return done.returncode, done.stdout, done.stderr

    def good(self, *arguments, **options):
        code, out, err = self.go(*arguments, **options)
        self.assertEqual((code, err), (0, ""), out)
        return out

    def fails(self, *arguments, code=1, says=(), out="", **options):
        """One sentence on standard error with all of `says`, and no new file."""
        before = sorted(self.cwd.rglob("*"))
        got, printed, err = self.go(*arguments, **options)
        self.assertEqual((got, printed), (code, out), err)
        self.assertRegex(err, r"\Aocior: [^\n]+\n\Z")
        for part in (says,) if isinstance(says, str) else says:
            self.assertIn(part, err)
        self.assertEqual(sorted(self.cwd.rglob("*")), before, "something was left behind")

    def small(self):
        path = self.cwd / "small.onnx"
        path.write_bytes(onnx_bytes.small())
        return path


class Usage(Case):
    def test_help_of_every_command_has_an_example(self):
        self.assertIn("ocior ask", self.good("--help"))
        for command in COMMANDS:
            with self.subTest(command=command):
                out = self.good(command, "--help")
                self.assertIn("Example", out)
                self.assertIn(f"ocior {command}", out)

    def test_version(self):
        self.assertRegex(self.good("--version"), r"\Aocior \d+\.\d+\.\d+\n\Z")

    def test_wrong_use_is_exit_2(self):
        for arguments, says in [
            ((), "--help"),
            (("frobnicate",), ("'frobnicate'", "ask")),
            (("ask",), "--context"),
            (("ask", "--context", RIVER), "question"),
            (("ask", "--frob", "--context", RIVER, WHERE), "--frob"),
            (("ask", "--context", RIVER, "--context-file", "x", WHERE), "--context"),
            (("ask", "--batch", "x", WHERE), "--batch"),
            (("ask", "--context", RIVER, "--top-k", "0", WHERE), "--top-k"),
            (("ask", "--context", RIVER, "--top-k", "many", WHERE), "--top-k"),
            (("ask", "--context", RIVER, "--precision", "low", WHERE), "--precision"),
            (("ask", "--context"), "--context"),
            (("chat", "--context", "-"), "standard input"),
            (("convert", "x"), "--output"),
            (("convert", "-o", "x"), "DIR"),
            (("run",), "MODEL"),
            (("run", "m.onnx", "--output", "x.txt"), ".npz"),
            (("run", "m.onnx", "--input", "x"), "NAME=FILE"),
            (("run", "m.onnx", "--config", "x"), "KEY=VALUE"),
            (("verify", "m.onnx", "--against", "nobody"), "nobody"),
            (("verify", "m.onnx", "--rtol", "-1"), "--rtol"),
            (("dump", "--after=sometime", "m.onnx"), "sometime"),
            (("tokenize",), "TEXT"),
        ]:
            with self.subTest(arguments=arguments):
                self.fails(*arguments, code=2, says=says)

    def test_a_command_name_may_be_a_question(self):
        self.assertEqual(len(self.good("ask", "--context", RIVER, "info", "run").splitlines()), 2)


class Ask(Case):
    def ask(self, *arguments, **options):
        return [json.loads(line) for line in self.good("ask", "--json", *arguments, **options).splitlines()]

    def test_an_answer_for_people(self):
        self.assertRegex(self.good("ask", "--context", RIVER, WHERE), r"Black Forest \(score 0\.\d{4}\)\n\Z")

    def test_json(self):
        (row,) = self.ask("--context", RIVER, WHERE)
        self.assertEqual(list(row), ["id", "answer", "start", "end", "score"])
        self.assertEqual(RIVER[row["start"]:row["end"]], row["answer"])
        self.assertIn("Black Forest", row["answer"])
        self.assertGreater(row["score"], 0.1)
        self.assertEqual(row["id"], 1)

    def test_questions_share_the_context(self):
        rows = self.ask("--context", RIVER, WHERE, "Where does the river end?")
        self.assertEqual([r["id"] for r in rows], [1, 2])
        self.assertIn("sea", rows[1]["answer"])

    def test_top_k_is_a_list(self):
        (row,) = self.ask("--context", RIVER, "--top-k", 3, WHERE)
        scores = [a["score"] for a in row["answers"]]
        self.assertEqual((len(scores), sorted(scores, reverse=True)), (3, scores))

    def test_offsets_count_code_points(self):
        context = "𝒜 müde 🦊: " + RIVER
        (row,) = self.ask("--context", context, WHERE)
        self.assertEqual(context[row["start"]:row["end"]], row["answer"])
        self.assertIn("Black Forest", row["answer"])

    def test_context_from_a_file_and_from_standard_input(self):
        (self.cwd / "river.txt").write_text(RIVER)
        want = self.ask("--context", RIVER, WHERE)
        self.assertEqual(self.ask("--context-file", "river.txt", WHERE), want)
        self.assertEqual(self.ask("--context", "-", WHERE, stdin=RIVER), want)

    def test_brackets_and_dashes_are_text(self):
        rows = self.ask("--context", f"[{RIVER}, or so]", "--", "[where, does the river rise?]", "- where does it end?")
        self.assertEqual([r["id"] for r in rows], [1, 2])
        self.assertEqual(f"[{RIVER}, or so]"[rows[0]["start"]:rows[0]["end"]], rows[0]["answer"])

    def test_no_answer(self):
        (row,) = self.ask("--context", RIVER, "--no-answer", "--top-k", 1000, WHERE)
        self.assertIn("", [a["answer"] for a in row["answers"]])

    def test_squad_mode_and_precisions_agree_on_an_easy_answer(self):
        for extra in (("--mode", "squad"), ("--precision", "high"), ("--precision", "medium"), ("--threads", "1")):
            with self.subTest(extra=extra):
                self.assertIn("Black Forest", self.ask("--context", RIVER, *extra, WHERE)[0]["answer"])

    def test_max_answer_len(self):
        (row,) = self.ask("--context", RIVER, "--max-answer-len", 1, WHERE)
        self.assertEqual(len(row["answer"].split()), 1)

    def test_batch_keeps_the_order_whatever_the_lengths(self):
        contexts = ["Filler goes here. " * n + RIVER for n in (0, 40, 3, 90, 1)]
        items = [{"id": f"q{i}", "question": WHERE, "context": c} for i, c in enumerate(contexts)] + [{"question": WHERE, "context": RIVER}]
        (self.cwd / "in.jsonl").write_text("\n\n".join(json.dumps(i) for i in items))
        rows = self.ask("--batch", "in.jsonl")
        self.assertEqual([r["id"] for r in rows], ["q0", "q1", "q2", "q3", "q4", 11])
        for row, item in zip(rows, items):
            self.assertEqual(item["context"][row["start"]:row["end"]], row["answer"])
            self.assertIn("Black Forest", row["answer"])
        alone = self.ask("--context", RIVER, WHERE)[0]
        self.assertEqual((rows[0]["start"], rows[0]["end"]), (alone["start"], alone["end"]))
        self.assertAlmostEqual(rows[0]["score"], alone["score"], places=4)

    def test_batch_answers_while_its_input_is_open(self):
        process = subprocess.Popen([PROGRAM, "ask", "--batch", "-", "--json"], cwd=self.cwd, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in (1, 2):
            process.stdin.write(json.dumps({"question": WHERE, "context": RIVER}) + "\n")
            process.stdin.flush()
            self.assertEqual(json.loads(process.stdout.readline())["id"], number)
        process.stdin.close()
        self.assertEqual(process.wait(60), 0)
        process.stdout.close()

    def test_bad_lines_name_their_number(self):
        ok = json.dumps({"id": 7, "question": WHERE, "context": RIVER})
        for line, says in [("{", "JSON"), ("[1]", '"question"'), ('{"question": "x"}', '"context"'), ('{"question": 1, "context": "x"}', '"question"'),
                           ('{"question": "x", "context": ""}', "context is empty"), ('{"id": [], "question": "x", "context": "y"}', '"id"'),
                           ("[" * 100000, "JSON")]:
            with self.subTest(line=line[:40]):
                (self.cwd / "in.jsonl").write_text(f"{ok}\n\n{line}\n{ok}\n")
                code, out, err = self.go("ask", "--batch", "in.jsonl", "--json")
                self.assertEqual(code, 1)
                self.assertRegex(err, r"\Aocior: in\.jsonl:3: [^\n]+\n\Z")
                self.assertIn(says, err)
                self.assertEqual([json.loads(l)["id"] for l in out.splitlines()], [7])

    def test_failures(self):
        (self.cwd / "empty.txt").write_text(" \n")
        (self.cwd / "latin.txt").write_bytes(b"caf\xe9 au lait")
        (self.cwd / "broken.onnx").write_bytes(b"\x08\x08:\xff\xff\xff\x7fxx")
        (self.cwd / "none").mkdir()
        for arguments, says in [
            (("--context", "missing.txt", WHERE), ("missing.txt", "--context-file")),
            (("--context-file", "missing.txt", WHERE), ("missing.txt", "No such file")),
            (("--context-file", ".", WHERE), "folder"),
            (("--context-file", "empty.txt", WHERE), "context is empty"),
            (("--context-file", "latin.txt", WHERE), "UTF-8"),
            (("--context", "", WHERE), "context is empty"),
            (("--context", RIVER, ""), "question is empty"),
            (("--batch", "missing.jsonl"), "missing.jsonl"),
            (("--batch", "empty.txt"), "empty.txt"),
            (("--context", RIVER, "--model", "nowhere", WHERE), ("nowhere", "checkpoint folder")),
            (("--context", RIVER, "--model", "broken.onnx", WHERE), "broken.onnx"),
            (("--context", RIVER, "--model", "none", WHERE), "config.json"),
            (("--context", RIVER, "--max-seq-len", "100000", WHERE), "max_seq_len"),
            (("--context", RIVER, "--doc-stride", "1000", WHERE), "doc_stride"),
            (("--context", RIVER, "--disable-pass", "no-such-pass", WHERE), "no-such-pass"),
            (("--context", RIVER, "--config", "ocior.frob=1", WHERE), "ocior.frob"),
        ]:
            with self.subTest(arguments=arguments):
                self.fails("ask", *arguments, says=says)

    def test_a_question_that_is_too_long_is_cut_and_says_so(self):
        code, out, err = self.go("ask", "--context", RIVER * 20, "where " * 500, "--json")
        self.assertEqual(code, 0, err)
        self.assertRegex(err, r"\Aocior: the question: [^\n]*64 tokens\n\Z")
        json.loads(out)

    def test_a_model_for_another_task_is_refused(self):
        path = self.small()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (self.cwd / name).write_bytes((MODEL / name).read_bytes())
        self.fails("ask", "--model", path, "--context", RIVER, WHERE, says=("small.onnx", "'x'"))

    def test_a_converted_model_answers_alike(self):
        self.good("convert", MODEL, "-o", "qa.onnx", "--with-tokenizer")
        self.assertEqual(self.ask("--model", "qa.onnx", "--context", RIVER, WHERE), self.ask("--context", RIVER, WHERE))

    def test_the_cache_is_filled_once(self):
        env = {"OCIOR_CACHE_DIR": str(self.cwd / "cache")}
        first = self.ask("--context", RIVER, WHERE, env=env)
        models = list((self.cwd / "cache").glob("*.onnx"))
        self.assertEqual(len(models), 1)
        made = models[0].stat().st_mtime_ns, models[0].stat().st_ino
        self.assertEqual(self.ask("--context", RIVER, WHERE, env=env), first)
        self.assertEqual(models[0].stat().st_ino, made[1])
        models[0].write_bytes(b"damaged")
        self.assertEqual(self.ask("--context", RIVER, WHERE, env=env), first)

    def test_an_unusable_cache_is_a_note(self):
        (self.cwd / "file").write_text("")
        for env, limit in [({"OCIOR_CACHE_DIR": str(self.cwd / "file")}, None), ({"OCIOR_CACHE_DIR": str(self.cwd / "cache")}, 1 << 20)]:
            with self.subTest(env=env):
                limited = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None
                code, out, err = self.go("ask", "--context", RIVER, WHERE, env=env, preexec_fn=limited)
                self.assertEqual(code, 0, err)
                self.assertIn("Black Forest", out)
                self.assertRegex(err, r"\Aocior: the model is prepared anew each time: [^\n]+\n\Z")
                self.assertEqual([p for p in self.cwd.rglob("*") if p.suffix in (".onnx", ".tmp", ".weights")], [])


class Chat(Case):
    def test_piped(self):
        (self.cwd / "sea.txt").write_text("The sea is deep and blue.")
        code, out, err = self.go("chat", "--context", RIVER, "--json", stdin=f"{WHERE}\n\n/context @sea.txt\nWhat colour is the sea?\n/quit\nnever read\n")
        self.assertEqual((code, err), (0, ""))
        answers = [json.loads(line)["answer"] for line in out.splitlines()]
        self.assertEqual(len(answers), 2)
        self.assertIn("Black Forest", answers[0])
        self.assertIn("blue", answers[1])

    def test_piped_mistakes_are_explained_and_counted(self):
        code, out, err = self.go("chat", stdin=f"{WHERE}\n/frob\n/context @missing.txt\n/context {RIVER}\n/context\n{WHERE}\n/help\n")
        self.assertEqual(code, 1)
        lines = err.splitlines()
        self.assertEqual(len(lines), 4)
        for line, says in zip(lines, ("/context", "'/frob'", "missing.txt", "3 of the lines")):
            self.assertIn(says, line)
        self.assertIn(RIVER, out)
        self.assertRegex(out, r"Black Forest \(score")
        self.assertIn("/quit", out)

    def test_missing_context_file(self):
        self.fails("chat", "--context-file", "missing.txt", says="missing.txt")

    def test_terminal(self):
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(self.cwd)
            os.execve(PROGRAM, ["ocior", "chat", "--context", RIVER], dict(environment, HOME=str(self.cwd)))
        try:
            self.expect(terminal, "> ")
            os.write(terminal, (WHERE + "\n").encode())
            self.assertIn("Black Forest", self.expect(terminal, "(score ", "> "))
            os.write(terminal, b"half a line")
            self.expect(terminal, "half a line")
            os.write(terminal, b"\x03")                        # Ctrl-C drops the line
            self.expect(terminal, "\n", "> ")
            os.write(terminal, b"\x1b[A\n")                    # the arrow up brings the question back
            self.assertIn("Black Forest", self.expect(terminal, WHERE, "(score ", "> "))
            os.write(terminal, "/context Der Fluss heißt Donau.\n".encode())
            self.expect(terminal, "heißt Donau.", "> ")
            os.write(terminal, b"/context\n")
            self.expect(terminal, "/context", "heißt Donau.", "> ")
            os.write(terminal, b"/nonsense\n")
            self.expect(terminal, "unknown command", "> ")
            os.write(terminal, b"\x04")                        # Ctrl-D ends
            self.assertEqual(self.wait(child), 0)
            child = 0
        finally:
            if child:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            os.close(terminal)

    def expect(self, terminal, *parts):
        """Reads until all parts came, one after the other."""
        seen, deadline = b"", time.monotonic() + 120
        while True:
            at = 0
            for part in parts:
                at = seen.find(part.encode(), at)
                if at < 0:
                    break
                at += len(part.encode())
            if at >= 0:
                return seen.decode(errors="replace")
            self.assertLess(time.monotonic(), deadline, f"{parts} did not come: {seen!r}")
            if select.select([terminal], [], [], 1)[0]:
                try:
                    seen += os.read(terminal, 65536)
                except OSError:
                    self.fail(f"the program ended: {seen!r}")

    def wait(self, child):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        self.fail("the program did not end")


class Convert(Case):
    def test_says_what_it_did(self):
        out = self.good("convert", MODEL, "-o", "m.onnx")
        for part in ("m.onnx", "question-answering", "opset 17", "input_ids", "start_logits", "MB"):
            self.assertIn(part, out)
        self.assertEqual([p.name for p in self.cwd.iterdir()], ["m.onnx"])

    def test_json_options_and_tokenizer(self):
        row = json.loads(self.good("convert", MODEL, "-o", "m.onnx", "--opset", 20, "--dtype", "fp16", "--with-tokenizer", "--json"))
        self.assertEqual((row["opset"], row["dtype"], row["task"]), (20, "fp16", "question-answering"))
        self.assertEqual(row["bytes"], (self.cwd / "m.onnx").stat().st_size)
        self.assertEqual([i["name"] for i in row["inputs"]], ["input_ids", "attention_mask"])
        self.assertIn("tokenizer.json", row["tokenizer_files"])
        self.assertEqual(json.loads(self.good("info", "m.onnx", "--json"))["opsets"], {"ai.onnx": 20})

    def test_failures(self):
        (self.cwd / "broken").mkdir()
        (self.cwd / "broken" / "config.json").write_bytes((MODEL / "config.json").read_bytes())
        (self.cwd / "broken" / "model.safetensors").write_bytes(b"\xff" * 100)
        for arguments, says in [
            (("nowhere", "-o", "m.onnx"), "nowhere"),
            (("broken", "-o", "m.onnx"), "model.safetensors"),
            ((MODEL, "-o", "no/such/folder/m.onnx"), "no/such/folder"),
            ((MODEL, "-o", "m.onnx", "--opset", 99), "opset 99"),
            ((MODEL, "-o", "m.onnx", "--task", "juggling"), "juggling"),
            ((MODEL, "-o", self.cwd), "folder"),
        ]:
            with self.subTest(arguments=arguments):
                self.fails("convert", *arguments, says=says)

    def test_a_full_disk_leaves_nothing(self):
        self.fails("convert", MODEL, "-o", "m.onnx", says="m.onnx", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))


class Verify(Case):
    def data_set(self, y):
        """TensorProto: dims 1, data_type 2, raw_data 9."""
        folder = self.cwd / "test_data_set_0"
        folder.mkdir()
        tensor = lambda dims, dtype, raw: b"".join(onnx_bytes.number(1, d) for d in dims) + onnx_bytes.number(2, dtype) + onnx_bytes.message(9, raw)
        (folder / "input_0.pb").write_bytes(tensor([1, 3], 1, struct.pack("<3f", 1, 2, 3)))
        (folder / "input_1.pb").write_bytes(tensor([1, 1], 7, struct.pack("<q", 5)))
        (folder / "output_0.pb").write_bytes(tensor([1, 3], 1, struct.pack("<3f", 2, 4, y)))
        (folder / "output_1.pb").write_bytes(tensor([1, 1], 7, struct.pack("<q", -5)))
        return folder

    def test_test_data(self):
        model = self.small()
        self.data_set(6)
        self.assertEqual(self.good("verify", model).splitlines(), ["test_data_set_0  y  ok  the same", "test_data_set_0  n  ok  the same"])

    def test_a_difference(self):
        model = self.small()
        self.data_set(7)
        code, out, err = self.go("verify", model, "--json")
        rows = [json.loads(line) for line in out.splitlines()]
        self.assertEqual((code, rows[0]["ok"], rows[1]["ok"]), (1, False, True))
        self.assertEqual((rows[0]["index"], rows[0]["got"], rows[0]["expected"], rows[0]["largest"]), ("[0, 2]", "6", "7", 1))
        self.assertIn("1 of 2 outputs", err)
        self.good("verify", model, "--atol", 1)

    def test_reference(self):
        self.assertEqual(self.good("verify", self.small(), "--dim", "batch=2").count("made-up inputs"), 2)

    def test_failures(self):
        model = self.small()
        self.fails("verify", "none.onnx", says="none.onnx")
        self.fails("verify", model, "--data", self.cwd, says="test_data_set_0")
        (self.data_set(6) / "input_0.pb").write_bytes(b"\xff\xff")
        self.fails("verify", model, says=("input_0.pb", "protobuf"))

    def test_no_onnxruntime(self):
        self.fails("verify", self.small(), "--against", "ort", env={"PATH": str(self.cwd)}, says="pip install onnxruntime")


class Run(Case):
    def setUp(self):
        super().setUp()
        self.model = self.small()
        (self.cwd / "x.npy").write_bytes(npy("<f4", "(2, 3)", struct.pack("<6f", *range(6))))
        (self.cwd / "ids.json").write_text("[[1, -2], [3, 4]]")
        self.given = ("--input", "x=x.npy", "--input", "ids=ids.json")

    def test_describes_outputs(self):
        out = self.good("run", self.model, *self.given).splitlines()
        self.assertEqual(out[0], "y  tensor(float)  [2, 3]  min 0  max 10  mean 5")
        self.assertEqual(out[1], "n  tensor(int64)  [2, 2]  min -4  max 2  mean -1.5")

    def test_json_lines(self):
        rows = [json.loads(l) for l in self.good("run", self.model, *self.given, "--json", "--repeat", 3).splitlines()]
        self.assertEqual(rows[0], {"name": "y", "type": "tensor(float)", "shape": [2, 3], "min": 0.0, "max": 10.0, "mean": 5.0, "nan": 0})

    def test_output_files(self):
        self.assertEqual(self.good("run", self.model, *self.given, "--output", "out.json"), "")
        self.assertEqual(json.loads((self.cwd / "out.json").read_text()), {"y": [[0, 2, 4], [6, 8, 10]], "n": [[-1, 2], [-3, -4]]})
        self.good("run", self.model, *self.given, "--output", "out.npz")
        with zipfile.ZipFile(self.cwd / "out.npz") as archive:
            self.assertIsNone(archive.testzip())
            header, data = read_npy(archive.read("y.npy"))
            self.assertEqual((header["descr"], header["shape"], struct.unpack("<6f", data)), ("<f4", (2, 3), (0, 2, 4, 6, 8, 10)))
            header, data = read_npy(archive.read("n.npy"))
            self.assertEqual((header["descr"], struct.unpack("<4q", data)), ("<i8", (-1, 2, -3, -4)))

    def test_inputs_from_one_file(self):
        want = self.good("run", self.model, *self.given)
        (self.cwd / "all.json").write_text(json.dumps({"x": [[0, 1, 2], [3, 4, 5]], "ids": [[1, -2], [3, 4]]}))
        self.assertEqual(self.good("run", self.model, "--inputs", "all.json"), want)
        with zipfile.ZipFile(self.cwd / "all.npz", "w") as archive:
            archive.writestr("x.npy", npy(">f4", "(2, 3)", struct.pack(">6f", 0, 3, 1, 4, 2, 5), order=True))   # big-endian, by columns
            archive.writestr("ids.npy", npy("<i8", "(2, 2)", struct.pack("<4q", 1, -2, 3, 4)))
        self.assertEqual(self.good("run", self.model, "--inputs", "all.npz"), want)
        self.good("run", self.model, *self.given, "--output", "back.json")
        self.assertEqual(json.loads((self.cwd / "back.json").read_text())["y"], [[0, 2, 4], [6, 8, 10]])

    def test_special_numbers(self):
        (self.cwd / "x.json").write_text('[["NaN", "Infinity", -1.5]]')
        (self.cwd / "i.json").write_text("[[9223372036854775807]]")
        self.good("run", self.model, "--input", "x=x.json", "--input", "ids=i.json", "--output", "out.json")
        self.assertEqual(json.loads((self.cwd / "out.json").read_text()), {"y": [["NaN", "Infinity", -3.0]], "n": [[-9223372036854775807]]})
        self.assertIn("1 NaN", self.good("run", self.model, "--input", "x=x.json", "--input", "ids=i.json"))

    def test_made_up_inputs(self):
        first = self.good("run", self.model, "--random", "--dim", "batch=4", "--dim", "length=7", "--seed", 3)
        self.assertIn("[4, 3]", first)
        self.assertIn("[4, 7]", first)
        self.assertEqual(self.good("run", self.model, "--random", "--dim", "batch=4", "--dim", "length=7", "--seed", 3), first)
        self.assertNotEqual(self.good("run", self.model, "--random", "--dim", "batch=4", "--dim", "length=7", "--seed", 4), first)
        self.assertIn("[1, 5]", self.good("run", self.model, "--random", "--dim", "ids:1=5"))

    def test_one_output(self):
        self.assertRegex(self.good("run", self.model, *self.given, "--output-name", "n"), r"\An  [^\n]+\n\Z")

    def test_failures(self):
        (self.cwd / "short.npy").write_bytes(npy("<f4", "(2, 300000000000)", b"\0" * 24))
        (self.cwd / "huge.npy").write_bytes(npy("<f4", "(4611686018427387904, 4611686018427387904)", b""))
        (self.cwd / "object.npy").write_bytes(npy("|O", "(2, 3)", b"\0" * 48))
        (self.cwd / "double.npy").write_bytes(npy("<f8", "(2, 3)", b"\0" * 48))
        (self.cwd / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00\xff\xff{")
        (self.cwd / "ragged.json").write_text("[[1, 2, 3], [4, 5]]")
        (self.cwd / "word.json").write_text('[["one", 2, 3]]')
        (self.cwd / "half.json").write_text("[[1.5]]")
        (self.cwd / "bad.json").write_text("[[")
        (self.cwd / "not.npz").write_text("no zip")
        (self.cwd / "model.onnx").write_bytes(onnx_bytes.small()[:40])
        (self.cwd / "other.onnx").write_bytes(onnx_bytes.model([onnx_bytes.node("Frobnicate", ["x"], ["y"], "odd")],
                                              [onnx_bytes.value("x", onnx_bytes.FLOAT, [1])], [onnx_bytes.value("y", onnx_bytes.FLOAT, [1])]))
        ids = ("--input", "ids=ids.json")
        for arguments, says in [
            ((self.model,), ("'x'", "--random")),
            ((self.model, "--input", "z=x.npy"), ("'z'", "x, ids")),
            ((self.model, "--input", "x=nothing.npy", *ids), "nothing.npy"),
            ((self.model, "--input", "x=short.npy", *ids), "short.npy"),
            ((self.model, "--input", "x=huge.npy", *ids), "huge.npy"),
            ((self.model, "--input", "x=object.npy", *ids), "object.npy"),
            ((self.model, "--input", "x=cut.npy", *ids), "cut.npy"),
            ((self.model, "--input", "x=small.onnx", *ids), "small.onnx"),
            ((self.model, "--input", "x=ragged.json", *ids), "different lengths"),
            ((self.model, "--input", "x=word.json", *ids), "one"),
            ((self.model, "--input", "ids=half.json", "--input", "x=x.npy"), "1.5"),
            ((self.model, "--input", "x=bad.json", *ids), "bad.json"),
            ((self.model, "--inputs", "not.npz"), "not.npz"),
            ((self.model, "--random", "--dim", "width=3"), ("width", "batch, length")),
            ((self.model, "--random", "--dim", "batch=many"), "batch=many"),
            ((self.model, "--random", "--dim", "batch=4611686018427387904"), "too large"),
            ((self.model, *self.given, "--output", "no/folder/out.npz"), "no/folder"),
            (("nowhere.onnx", "--random"), "nowhere.onnx"),
            (("model.onnx", "--random"), "model.onnx"),
            (("other.onnx", "--random"), ("other.onnx", "Frobnicate", "odd")),
        ]:
            with self.subTest(arguments=arguments):
                self.fails("run", *arguments, says=says)
        code, out, err = self.go("run", self.model, "--input", "x=double.npy", *ids)
        self.assertEqual((code, out), (1, ""))
        self.assertIn("'x'", err)

    def test_a_full_standard_output_is_a_failure(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM, "run", self.model, *self.given], cwd=self.cwd, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Aocior: the results cannot be written[^\n]+\n\Z")


class Look(Case):
    def test_info(self):
        row = json.loads(self.good("info", self.small(), "--json"))
        self.assertEqual(row["operators"], {"Add": 1, "Neg": 1})
        self.assertEqual(row["inputs"][1], {"name": "ids", "type": "tensor(int64)", "shape": ["batch", "length"]})
        self.assertEqual((row["opsets"], row["parameters"], row["bytes"]), ({"ai.onnx": 17}, 0, self.small().stat().st_size))
        self.assertIn("x  tensor(float)  [batch, 3]", self.good("info", self.small()))
        self.fails("info", "nowhere.onnx", says="nowhere.onnx")
        (self.cwd / "text.onnx").write_text("This is no model.")
        self.fails("info", "text.onnx", says="text.onnx")

    def test_explain(self):
        row = json.loads(self.good("explain", self.small(), "--json"))
        self.assertEqual([s["op"] for s in row["steps"]], ["Add", "Neg"])
        self.assertIn("precision: medium", self.good("explain", self.small(), "--precision", "medium"))
        self.fails("explain", "nowhere.onnx", says="nowhere.onnx")

    def test_dump(self):
        for stage in ("import", "infer", "simplify"):
            self.assertIn("Add", self.good("dump", f"--after={stage}", self.small()))
        self.fails("dump", "nowhere.onnx", says="nowhere.onnx")

    def test_tokenize(self):
        row = json.loads(self.good("tokenize", "Héllo wörld", "--json"))
        self.assertEqual(row["tokens"], ["[CLS]", "hello", "world", "[SEP]"])
        self.assertEqual(row["offsets"], [[0, 0], [0, 5], [6, 11], [0, 0]])
        self.assertEqual(len(self.good("tokenize", "--model", MODEL, "[a, b]", "c", "--json").splitlines()), 2)
        self.fails("tokenize", "--model", self.cwd, "x", says="tokenizer.json")

    def test_bench(self):
        row = json.loads(self.good("bench", self.small(), "--seconds", 0.1, "--dim", "batch=2", "--json"))
        self.assertEqual(row["inputs"], {"x": [2, 3], "ids": [2, 16]})
        self.assertGreaterEqual(row["runs"], 10)
        self.assertLessEqual(row["min_ms"], row["median_ms"])
        self.assertLessEqual(row["p90_ms"], row["p99_ms"])
        self.assertGreater(row["peak_rss_bytes"], 1 << 20)
        self.assertIn("runs per second", self.good("bench", self.small(), "--seconds", 0.1))
        self.fails("bench", "nowhere.onnx", says="nowhere.onnx")


class Interrupt(Case):
    def interrupted(self, *arguments, number=signal.SIGINT, ready=None, stdin=None):
        """Signals the program once `ready` (a line of output, or a while) came; it must end soon, by itself, without a word."""
        process = subprocess.Popen([PROGRAM, *map(str, arguments)], cwd=self.cwd, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            if stdin:
                process.stdin.write(stdin)
                process.stdin.flush()
                process.stdout.readline()
            else:
                time.sleep(3)
            process.send_signal(number)
            start = time.monotonic()
            self.assertEqual(process.wait(60), 128 + number)
            self.assertLess(time.monotonic() - start, 10)
            self.assertEqual(process.stderr.read(), "")
        finally:
            process.kill()
            process.communicate()

    def test_bench(self):
        self.interrupted("bench", self.small(), "--seconds", 100)

    def test_terminate(self):
        self.interrupted("bench", self.small(), "--seconds", 100, number=signal.SIGTERM)

    def test_a_batch_that_waits(self):
        self.interrupted("ask", "--batch", "-", stdin=json.dumps({"question": WHERE, "context": RIVER}) + "\n")

    def test_a_run(self):
        (self.cwd / "in.jsonl").write_text((json.dumps({"question": WHERE, "context": RIVER * 200}) + "\n") * 500)
        self.interrupted("ask", "--batch", "in.jsonl")

    def test_piped_chat(self):
        self.interrupted("chat", "--context", RIVER, stdin=WHERE + "\n")

    def test_conversion_leaves_nothing(self):
        process = subprocess.Popen([PROGRAM, "convert", MODEL, "-o", "m.onnx"], cwd=self.cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        self.assertLessEqual({p.name for p in self.cwd.iterdir()}, {"m.onnx"} if process.returncode == 0 else set())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
