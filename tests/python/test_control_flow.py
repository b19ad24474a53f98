"""Loop, Scan and SequenceMap: nested, carrying other kinds of values, stopped, and wrong."""
import threading

import numpy as np
import pytest
from onnx import TensorProto, helper

import ocior
from test_values import graph_of, sequence, session, tensor

INT64, BOOL, FLOAT = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT


def constant(name, value, elem_type=INT64):
    return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, elem_type, np.shape(value), np.ravel(value)))


def body_of(nodes, states, outputs, go_on="go"):
    """A Loop's body: the iteration number `i` and the condition `go`, then `states`."""
    if go_on == "go":
        nodes, go_on = [helper.make_node("Identity", ["go"], ["go_on"]), *nodes], "go_on"
    return helper.make_graph(nodes, "body", [tensor("i", INT64, []), tensor("go", BOOL, []), *states], [tensor(go_on, BOOL, []), *outputs])


X = np.array([1, 2, 3], np.float32)


def test_trip_count_and_condition():
    """x doubles while it is below `limit`, at most `m` times; what it was is collected."""
    body = body_of([helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Less", ["y", "limit"], ["below"]),
                    helper.make_node("Identity", ["x"], ["was"])], [tensor("x", FLOAT, [])], [tensor("y", FLOAT, []), tensor("was", FLOAT, [])], "below")
    for with_m in (True, False):
        s = session(graph_of([helper.make_node("Loop", ["m" if with_m else "", "", "x0"], ["last", "all"], body=body)],
                             [*([tensor("m", INT64, [])] if with_m else []), tensor("x0", FLOAT, []), tensor("limit", FLOAT, [])],
                             [tensor("last", FLOAT, []), tensor("all", FLOAT, ["n"])]))
        for m, limit in ((5, 3), (5, 1e9), (1, 100), (0, 100), (-3, 100)):
            if not with_m and (m, limit) != (5, 3):
                continue
            x, was = np.float32(1), []
            for _ in range(max(m, 0)):
                was.append(x)
                x = x + x
                if not x < limit:
                    break
            last, collected = s.run(None, {"x0": np.array(1, np.float32), "limit": np.array(limit, np.float32), **({"m": np.array(m)} if with_m else {})})
            assert last == x and collected.tolist() == was and collected.shape == (len(was),)


def test_a_condition_that_is_false_at_once():
    body = body_of([helper.make_node("Neg", ["x"], ["y"])], [tensor("x")], [tensor("y")])
    s = session(graph_of([helper.make_node("Loop", ["", "c", "x0"], ["y0"], body=body)], [tensor("c", BOOL, [1]), tensor("x0")], [tensor("y0")]))
    (y,) = s.run(None, {"c": np.array([False]), "x0": X})
    np.testing.assert_array_equal(y, X)


def test_a_carried_value_that_grows():
    body = body_of([helper.make_node("Concat", ["x", "step"], ["y"], axis=0), helper.make_node("Shape", ["x"], ["size"])], [tensor("x", FLOAT, [1])],
                   [tensor("y", FLOAT, [1]), tensor("size", INT64, [1])])
    s = session(graph_of([helper.make_node("Loop", ["m", "", "x0"], ["last", "sizes"], body=body), helper.make_node("Shape", ["last"], ["shape"])],
                         [tensor("m", INT64, []), tensor("x0", FLOAT, [1]), tensor("step", FLOAT, [2])],
                         [tensor("last", FLOAT, None), tensor("sizes", INT64, None), tensor("shape", INT64, [1])]))
    for m in (3, 0, 5, 3):
        last, sizes, shape = s.run(None, {"m": np.array(m), "x0": X[:1], "step": X[1:]})
        assert last.tolist() == [1] + [2, 3] * m and shape.tolist() == [1 + 2 * m]
        assert sizes.ravel().tolist() == [1 + 2 * k for k in range(m)] and sizes.shape == (m, 1)


def test_a_loop_in_a_branch_in_a_loop():
    """The inner loop multiplies by a value captured over two graphs, and reads the outer iteration number."""
    inner = helper.make_graph([helper.make_node("Identity", ["go2"], ["on2"]), helper.make_node("Mul", ["v", "factor"], ["w"])], "inner",
                              [tensor("j", INT64, []), tensor("go2", BOOL, []), tensor("v")], [tensor("on2", BOOL, []), tensor("w")])
    odd = helper.make_graph([helper.make_node("Loop", ["i", "", "x"], ["r"], body=inner)], "odd", [], [tensor("r")])
    even = helper.make_graph([helper.make_node("Neg", ["x"], ["q"])], "even", [], [tensor("q")])
    outer = body_of([constant("two", 2), constant("one", 1), helper.make_node("Mod", ["i", "two"], ["rest"]), helper.make_node("Equal", ["rest", "one"], ["is_odd"]),
                     helper.make_node("If", ["is_odd"], ["y"], then_branch=odd, else_branch=even)], [tensor("x")], [tensor("y")])
    s = session(graph_of([helper.make_node("Loop", ["m", "", "x0"], ["last"], body=outer)], [tensor("m", INT64, []), tensor("x0"), tensor("factor")], [tensor("last")]))
    for m in range(5):
        want = X
        for i in range(m):
            want = want * np.float32(2) ** i if i % 2 else -want
        (got,) = s.run(None, {"m": np.array(m), "x0": X, "factor": np.array([2], np.float32)})
        np.testing.assert_array_equal(got, want)


def test_a_loop_carries_a_sequence():
    body = body_of([helper.make_node("SequenceInsert", ["s", "x"], ["t"])], [sequence("s")], [sequence("t")])
    s = session(graph_of([helper.make_node("SequenceEmpty", [], ["s0"]), helper.make_node("Loop", ["m", "", "s0"], ["s1"], body=body),
                          helper.make_node("SequenceLength", ["s1"], ["n"])], [tensor("m", INT64, []), tensor("x")], [sequence("s1"), tensor("n", INT64, [])]))
    for m in (0, 1, 40):
        got, n = s.run(None, {"m": np.array(m), "x": X})
        assert n == m == len(got) and all(np.array_equal(g, X) for g in got)


@pytest.mark.parametrize("works", [True, False])
def test_an_endless_loop_can_be_stopped(works):
    """Also one whose body does nothing."""
    body = body_of([helper.make_node("Neg", ["x"], ["y"])], [tensor("x")], [tensor("y")]) if works else helper.make_graph(
        [], "body", [tensor("i", INT64, []), tensor("go", BOOL, []), tensor("x")], [tensor("go", BOOL, []), tensor("x")])
    s = session(graph_of([helper.make_node("Loop", ["", "", "x0"], ["r"], body=body)], [tensor("x0")], [tensor("r")]))
    options = ocior.RunOptions()
    timer = threading.Timer(0.3, lambda: setattr(options, "terminate", True))
    timer.start()
    with pytest.raises(ocior.Fail, match="terminate"):
        s.run(None, {"x0": X}, options)
    timer.join()


def scan_body():
    return helper.make_graph([helper.make_node("Add", ["s", "x"], ["t"]), helper.make_node("Mul", ["s", "x"], ["y"])], "body",
                             [tensor("s"), tensor("x")], [tensor("t"), tensor("y")])


@pytest.mark.parametrize("backward", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("out_backward", [0, 1])
def test_scan(axis, backward, out_backward):
    x = np.arange(12, dtype=np.float32).reshape((4, 3) if axis == 0 else (3, 4))
    node = helper.make_node("Scan", ["s0", "x"], ["last", "ys"], body=scan_body(), num_scan_inputs=1, scan_input_axes=[axis], scan_input_directions=[backward],
                            scan_output_axes=[axis], scan_output_directions=[out_backward])
    last, ys = session(graph_of([node], [tensor("s0"), tensor("x")], [tensor("last"), tensor("ys")])).run(None, {"s0": X, "x": x})
    s, collected = X, []
    for row in np.moveaxis(x, axis, 0)[::-1 if backward else 1]:
        collected.append(s * row)
        s = s + row
    np.testing.assert_array_equal(last, s)
    np.testing.assert_array_equal(ys, np.stack(collected[::-1] if out_backward else collected, axis))


@pytest.mark.parametrize("backward", [0, 1])
@pytest.mark.parametrize("lengths", [None, [4, 2], [0, 1], [0, 0]])
def test_scan_of_batches(lengths, backward):
    x = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    s0 = np.stack([X, -X])
    node = helper.make_node("Scan", ["lengths" if lengths else "", "s0", "x"], ["last", "ys"], body=scan_body(), num_scan_inputs=1, directions=[backward])
    inputs = [tensor("s0", FLOAT, [2, 3]), tensor("x", FLOAT, [2, 4, 3])]
    s = session(graph_of([node], ([tensor("lengths", INT64, [2])] if lengths else []) + inputs, [tensor("last", FLOAT, [2, 3]), tensor("ys", FLOAT, [2, 4, 3])]), 8)
    last, ys = s.run(None, {"s0": s0, "x": x, **({"lengths": np.array(lengths)} if lengths else {})})
    want_ys, want_last = np.zeros((2, 4, 3), np.float32), s0.copy()
    for b, n in enumerate(lengths or [4, 4]):
        for t in range(n):
            row = x[b, n - 1 - t if backward else t]
            want_ys[b, t] = want_last[b] * row
            want_last[b] += row
    np.testing.assert_array_equal(last, want_last)
    if lengths != [0, 0]:
        np.testing.assert_array_equal(ys, want_ys)
    if lengths:
        with pytest.raises(RuntimeError, match="sequence length"):
            s.run(None, {"s0": s0, "x": x, "lengths": np.array([5, 1])})


def test_scan_inputs_of_different_lengths():
    body = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "body", [tensor("a"), tensor("b")], [tensor("c")])
    s = session(graph_of([helper.make_node("Scan", ["a0", "b0"], ["c0"], body=body, num_scan_inputs=2, name="here")], [tensor("a0"), tensor("b0")], [tensor("c0")]))
    np.testing.assert_array_equal(s.run(None, {"a0": X, "b0": X})[0], 2 * X)
    with pytest.raises(RuntimeError, match="here.*slices"):
        s.run(None, {"a0": X, "b0": X[:2]})
    with pytest.raises(RuntimeError, match="here"):
        s.run(None, {"a0": np.array(1, np.float32), "b0": X})


def test_sequence_map_with_captures():
    body = helper.make_graph([helper.make_node("Mul", ["e", "factor"], ["p"]), helper.make_node("Shape", ["e"], ["q"])], "body", [tensor("e")],
                             [tensor("p"), tensor("q", INT64)])
    s = session(graph_of([helper.make_node("SequenceMap", ["s"], ["ps", "qs"], body=body)], [sequence("s"), tensor("factor")],
                         [sequence("ps"), sequence("qs", INT64)]))
    ps, qs = s.run(None, {"s": [X, X[:1]], "factor": np.array([3], np.float32)})
    assert [p.tolist() for p in ps] == [[3, 6, 9], [3]] and [q.tolist() for q in qs] == [[3], [1]]
    assert s.run(None, {"s": [], "factor": X}) == [[], []]


@pytest.mark.parametrize("node, text", [
    (lambda: helper.make_node("Loop", ["m", "", "x0"], ["r"], body=body_of([constant("k", 1)], [], [tensor("k", INT64, [])])), "initial values"),
    (lambda: helper.make_node("Loop", ["m", "", "x0"], ["r", "q"], body=body_of([helper.make_node("Neg", ["x"], ["y"])], [tensor("x")], [tensor("y")])), "outputs"),
    (lambda: helper.make_node("Loop", ["m", "", "x0"], ["r"], body=body_of([helper.make_node("Cast", ["x"], ["y"], to=INT64)], [tensor("x")], [tensor("y", INT64)])),
     "hands to the next"),
    (lambda: helper.make_node("Loop", ["m", "", "x0"], ["r"], body=body_of([helper.make_node("SequenceConstruct", ["x"], ["y"])], [tensor("x")], [sequence("y")])),
     "hands to the next"),
    (lambda: helper.make_node("Loop", ["m", "", "x0"], ["r"], body=body_of([helper.make_node("Neg", ["x"], ["y"])], [tensor("x", INT64)], [tensor("y", INT64)])),
     "declared as int64"),
    (lambda: helper.make_node("Loop", ["x0", "", "x0"], ["r"], body=body_of([helper.make_node("Neg", ["x"], ["y"])], [tensor("x")], [tensor("y")])), "trip count"),
    (lambda: helper.make_node("Loop", ["m", "m", "x0"], ["r"], body=body_of([helper.make_node("Neg", ["x"], ["y"])], [tensor("x")], [tensor("y")])), "condition"),
    (lambda: helper.make_node("Loop", ["m", "", "x0"], ["r"], body=body_of([helper.make_node("Neg", ["x"], ["y"])], [tensor("x")], [tensor("y")], "i")), ""),
    (lambda: helper.make_node("Loop", ["m", "", "x0"], ["r"]), "body"),
    (lambda: helper.make_node("Scan", ["x0"], ["r"], body=scan_body(), num_scan_inputs=1), "inputs"),
    (lambda: helper.make_node("Scan", ["x0", "x0"], ["r"], body=scan_body(), num_scan_inputs=3), "num_scan_inputs"),
    (lambda: helper.make_node("Scan", ["x0", "x0"], ["r"], body=scan_body(), num_scan_inputs=-2**63), "num_scan_inputs"),
    (lambda: helper.make_node("Scan", ["x0", "x0"], ["r"], body=scan_body(), num_scan_inputs=1, scan_input_axes=[2**62]), "axis"),
    (lambda: helper.make_node("Scan", ["x0", "x0"], ["r"], body=scan_body(), num_scan_inputs=1, scan_input_axes=[0, 0]), "scan_input_axes"),
    (lambda: helper.make_node("Scan", ["x0", "x0"], ["r"], body=scan_body(), num_scan_inputs=1, scan_output_directions=[2]), "scan_output_directions"),
    (lambda: helper.make_node("SequenceMap", ["x0"], ["r"], body=scan_body()), "inputs"),
])
def test_wrong_bodies(node, text):
    with pytest.raises(RuntimeError, match=text):
        session(graph_of([node()], [tensor("m", INT64, []), tensor("x0", FLOAT, ["n"])], [tensor("r")]))


def test_what_is_collected_must_be_alike():
    body = body_of([helper.make_node("Concat", ["x", "x"], ["y"], axis=0), helper.make_node("Identity", ["x"], ["was"])], [tensor("x")], [tensor("y"), tensor("was")])
    s = session(graph_of([helper.make_node("Loop", ["m", "", "x0"], ["r", "all"], body=body, name="here")], [tensor("m", INT64), tensor("x0")],
                         [tensor("r"), tensor("all")]))
    with pytest.raises(RuntimeError, match="here.*must be alike"):
        s.run(None, {"m": np.array(2), "x0": X})
    with pytest.raises(RuntimeError, match="here.*one value"):
        s.run(None, {"m": np.array([1, 2]), "x0": X})
