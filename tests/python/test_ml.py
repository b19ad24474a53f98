"""ai.onnx.ml against ONNX Runtime, which implements the whole domain: random trees, support vectors, linear models, encoders."""
import numpy as np
import pytest
from onnx import TensorProto, helper

import ocior

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is what the operators are compared with")

ONNX_TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": TensorProto.INT64, "int32": TensorProto.INT32,
              "object": TensorProto.STRING}
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]


def model(op, inputs, outputs, opset=3, **attributes):
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(n, ONNX_TYPES[x.dtype.name], list(x.shape)) for n, x in zip(names, inputs)],
        [helper.make_empty_tensor_value_info(f"y{i}") for i in range(outputs)])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def compare(op, *inputs, outputs=1, opset=3, tolerance=1e-5, stock=None, **attributes):
    """Runs both engines on one node and compares all outputs. `stock`: attributes that ONNX Runtime reads by other numbers."""
    inputs = [np.asarray(x) for x in inputs]
    inputs = [x.astype(object) if x.dtype.kind == "U" else x for x in inputs]
    feeds = {f"x{i}": x for i, x in enumerate(inputs)}
    made = model(op, inputs, outputs, opset, **attributes)
    theirs = model(op, inputs, outputs, opset, **{**attributes, **(stock or {})})
    want = ort.InferenceSession(theirs, providers=["CPUExecutionProvider"]).run(None, feeds)
    got = ocior.InferenceSession(made).run(None, feeds)
    for w, g in zip(want, got):
        assert w.shape == g.shape and w.dtype == g.dtype
        if w.dtype.kind == "f":
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(g, w)


def as_floats(values):
    return [float(v) for v in values]


def forest(rng, prefix, trees, depth, features, outputs, modes=MODES, positive=False, missing=False, weights_per_leaf=1):
    """Attributes of complete trees with random comparisons and weights; values on a grid, so that equality happens."""
    inner, a = 2**depth - 1, {}
    count = 2 * inner + 1
    place = np.arange(count)
    a["nodes_treeids"] = np.repeat(np.arange(trees), count).tolist()
    a["nodes_nodeids"] = np.tile(place, trees).tolist()
    a["nodes_featureids"] = rng.integers(0, features, trees * count).tolist()
    a["nodes_values"] = as_floats(rng.integers(-8, 9, trees * count) / 4)
    a["nodes_modes"] = [str(rng.choice(modes)) if i < inner else "LEAF" for _ in range(trees) for i in range(count)]
    a["nodes_truenodeids"] = np.tile(np.where(place < inner, 2 * place + 1, 0), trees).tolist()
    a["nodes_falsenodeids"] = np.tile(np.where(place < inner, 2 * place + 2, 0), trees).tolist()
    if missing:
        a["nodes_missing_value_tracks_true"] = rng.integers(0, 2, trees * count).tolist()
    leaves = [(t, i, k) for t in range(trees) for i in range(inner, count)
              for k in rng.permutation(outputs)[:weights_per_leaf]]
    a[prefix + "_treeids"], a[prefix + "_nodeids"], a[prefix + "_ids"] = ([int(leaf[k]) for leaf in leaves] for k in range(3))
    weights = rng.normal(size=len(leaves))
    a[prefix + "_weights"] = as_floats(np.abs(weights) / trees if positive else weights)
    return a


def rows(rng, count, features, dtype="float32", missing=False):
    x = rng.integers(-10, 11, (count, features)) / (4 if dtype.startswith("float") else 1)
    if missing:
        x[rng.random(x.shape) < 0.2] = np.nan
    return x.astype(dtype)


@pytest.mark.parametrize("modes", [MODES, MODES[:4], MODES[:1]], ids=["all", "orders", "leq"])
@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("targets", [[0], [0, 1, 2]], ids=["one", "three"])
def test_tree_regressor(modes, aggregate, targets):
    rng = np.random.default_rng(len(modes) * 7 + len(aggregate) + len(targets))
    for missing in (False, True):
        a = forest(rng, "target", 30, 4, 6, targets, modes, missing=missing)
        a.update(n_targets=len(targets), aggregate_function=aggregate)
        if missing:
            a["base_values"] = [0.5] * len(targets)
        for count in (1, 3, 100, 700):
            compare("TreeEnsembleRegressor", rows(rng, count, 6, missing=missing), **a)
        compare("TreeEnsembleRegressor", rows(rng, 50, 6, "float64", missing), **a)
        compare("TreeEnsembleRegressor", rows(rng, 20, 6, missing=missing), post_transform="LOGISTIC", opset=1, **a)
        compare("TreeEnsembleRegressor", rows(rng, 20, 6, missing=missing), post_transform="SOFTMAX", **a)


def test_tree_regressor_with_double_attributes():
    rng = np.random.default_rng(5)
    a = forest(rng, "target", 10, 3, 4, [0, 1])
    for name in ("nodes_values", "target_weights"):
        values = np.array(a.pop(name)) + 1e-9
        a[name + "_as_tensor"] = helper.make_tensor(name, TensorProto.DOUBLE, values.shape, values)
    compare("TreeEnsembleRegressor", rows(rng, 60, 4, "float64"), n_targets=2, **a)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("classes", [[0], [1], [0, 1], [0, 1, 2], [0, 1, 2, 3, 4]], ids=["first", "second", "two", "three", "five"])
def test_tree_classifier(transform, classes):
    rng = np.random.default_rng(len(classes))
    count = max(2, len(classes))
    labels = {"classlabels_int64s": list(range(count))}
    if count != 2:
        labels = {"classlabels_strings": [f"c{i}" for i in range(count)]}
    for positive in (False, True):
        for per_leaf in {1, len(classes)}:
            a = forest(rng, "class", 20, 3, 5, classes, positive=positive, missing=True, weights_per_leaf=per_leaf)
            for dtype in ("float32", "float64", "int64", "int32"):
                x = rows(rng, 70, 5, dtype, missing=dtype.startswith("float"))
                compare("TreeEnsembleClassifier", x, outputs=2, post_transform=transform, **a, **labels)
            if count > 2:
                compare("TreeEnsembleClassifier", x, outputs=2, base_values=as_floats(rng.normal(size=count)), post_transform=transform, **a, **labels)
            elif classes == [0]:
                compare("TreeEnsembleClassifier", x, outputs=2, base_values=[0.125], post_transform=transform, **a, **labels)


def indexed(rng, trees, depth, features, targets, dtype, members=False):
    """TreeEnsemble's attributes: complete trees again, with leaves of their own numbers."""
    onnx_type, inner = ONNX_TYPES[dtype], 2**depth - 1
    n, leaves = trees * inner, trees * (inner + 1)
    modes = rng.choice([0, 2, 4, 6, 6], n) if members else rng.integers(0, 6, n)
    place, tree = np.tile(np.arange(inner), trees), np.repeat(np.arange(trees), inner)
    is_leaf = 2 * place + 1 >= inner
    yes = np.where(is_leaf, tree * (inner + 1) + 2 * place + 1 - inner, tree * inner + 2 * place + 1)
    a = dict(n_targets=targets, tree_roots=[t * inner for t in range(trees)], nodes_featureids=rng.integers(0, features, n).tolist(),
             nodes_modes=helper.make_tensor("m", TensorProto.UINT8, (n,), modes.astype(np.uint8)),
             nodes_splits=helper.make_tensor("s", onnx_type, (n,), rng.integers(-8, 9, n) / 4),
             nodes_truenodeids=yes.tolist(), nodes_falsenodeids=(yes + 1).tolist(),
             nodes_trueleafs=is_leaf.astype(int).tolist(), nodes_falseleafs=is_leaf.astype(int).tolist(),
             nodes_missing_value_tracks_true=rng.integers(0, 2, n).tolist(),
             leaf_targetids=rng.integers(0, targets, leaves).tolist(),
             leaf_weights=helper.make_tensor("w", onnx_type, (leaves,), rng.normal(size=leaves)))
    if members:
        sets = [np.append(rng.permutation(np.arange(1, 10))[:rng.integers(1, 5)], np.nan) for _ in range(np.sum(modes == 6))]
        values = np.concatenate(sets)
        a["membership_values"] = helper.make_tensor("v", onnx_type, values.shape, values)
    return a


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("aggregate", range(4))
def test_tree_ensemble(dtype, aggregate):
    rng = np.random.default_rng(aggregate)
    for targets in (1, 3):
        for transform in range(4):
            a = indexed(rng, 12, 3, 5, targets, dtype)
            compare("TreeEnsemble", rows(rng, 60, 5, dtype, missing=transform % 2 == 1), opset=5, aggregate_function=aggregate,
                    post_transform=transform, stock={"post_transform": [0, 2, 1, 3][transform]}, **a)


@pytest.mark.parametrize("targets", [1, 3])
def test_member_sets(targets):
    rng = np.random.default_rng(targets)
    for _ in range(5):
        x = rng.integers(0, 10, (60, 5)).astype(np.float32)  # ONNX Runtime has sets of small integers only
        compare("TreeEnsemble", x, opset=5, **indexed(rng, 6, 2, 5, targets, "float32", members=True))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_linear_models(transform):
    rng = np.random.default_rng(3)
    for targets in (1, 2, 5):
        a = dict(coefficients=as_floats(rng.normal(size=7 * targets)), intercepts=as_floats(rng.normal(size=targets)), post_transform=transform)
        for shape in ((7,), (1, 7), (40, 7)):
            x = rng.normal(size=shape).astype(np.float32)
            compare("LinearRegressor", x, targets=targets, **a)
            labels = {"classlabels_ints": [4, 5]} if targets < 3 else {"classlabels_strings": list("abcde")}
            for dtype in ("float32", "float64", "int64", "int32"):
                compare("LinearClassifier", (3 * x).astype(dtype), outputs=2, **a, **labels)
    compare("LinearRegressor", x, targets=2, coefficients=as_floats(range(14)), intercepts=[3.0])


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vectors(kernel):
    rng = np.random.default_rng(len(kernel))
    params = dict(kernel_type=kernel, kernel_params=[0.2, 0.5, 3.0])
    for n in (1, 9):
        a = dict(support_vectors=as_floats(rng.normal(size=n * 6)), coefficients=as_floats(rng.normal(size=n)), rho=[0.3], n_supports=n)
        for one_class in (0, 1):
            compare("SVMRegressor", rng.normal(size=(30, 6)).astype(np.float32), one_class=one_class, **params, **a)
    for classes in (2, 3, 5):
        counts = rng.integers(1, 5, classes)
        vectors, pairs = int(counts.sum()), classes * (classes - 1) // 2
        a = dict(support_vectors=as_floats(rng.normal(size=vectors * 6)), coefficients=as_floats(rng.normal(size=(classes - 1) * vectors)),
                 rho=as_floats(rng.normal(size=pairs)), vectors_per_class=counts.tolist())
        a.update({"classlabels_ints": [7, 9]} if classes == 2 else {"classlabels_strings": list("abcde")[:classes]})
        for transform in TRANSFORMS:
            for dtype in ("float32", "float64", "int64", "int32"):
                compare("SVMClassifier", rng.normal(size=(30, 6), scale=2).astype(dtype), outputs=2, post_transform=transform, **params, **a)
        probabilities = dict(prob_a=as_floats(-rng.random(pairs) - 0.5), prob_b=as_floats(rng.normal(size=pairs)))
        compare("SVMClassifier", rng.normal(size=(30, 6)).astype(np.float32), outputs=2, tolerance=2e-4, **params, **a, **probabilities)


def test_support_vector_machines_without_vectors():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 6)).astype(np.float32)
    params = dict(kernel_params=[0.1, 0.2, 3.0])
    compare("SVMRegressor", x, coefficients=as_floats(rng.normal(size=6)), rho=[0.2], n_supports=0, **params)
    for classes in (1, 2, 3):
        for sign in (False, True):
            coefficients = rng.normal(size=6 * classes)
            compare("SVMClassifier", x, outputs=2, coefficients=as_floats(np.abs(coefficients) if sign else coefficients), rho=[0.2],
                    classlabels_ints=[4, 5, 6][:classes], **params)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32"])
def test_feature_preparation(dtype):
    rng = np.random.default_rng(2)
    x = rng.integers(-4, 5, (30, 4)).astype(dtype)
    for norm in ("MAX", "L1", "L2"):
        compare("Normalizer", x, norm=norm)
        compare("Normalizer", x[0], norm=norm)
    compare("Scaler", x, offset=[1.0, -2.0, 0.5, 0.0], scale=[1.0, 2.0, 3.0, -4.0])
    compare("Scaler", x, offset=[1.0], scale=[2.0])
    compare("ArrayFeatureExtractor", x, np.array([[3, 0, 3]]))
    compare("ArrayFeatureExtractor", x[0], np.array([1, 2]))
    compare("FeatureVectorizer", x, x[:, :2], x[:, :3], inputdimensions=[4, 1, 5])
    if dtype == "float32":
        compare("Binarizer", x, threshold=0.5)
        compare("Imputer", x, imputed_value_floats=[9.0], replaced_value_float=1.0)
        compare("Imputer", np.where(x == 1, np.nan, x).astype(dtype), imputed_value_floats=[9.0, 8.0, 7.0, 6.0], replaced_value_float=float("nan"))
    if dtype == "int64":
        compare("Imputer", x, imputed_value_int64s=[9, 8, 7, 6], replaced_value_int64=1)
    if dtype != "int32":
        compare("OneHotEncoder", x, cats_int64s=[-2, 0, 3, 4])


def test_encoders():
    names, numbers = np.array([["a", "b"], ["z", "c"]]), np.array([[1, 2], [9, 3]])
    keys = {"keys_strings": (["a", "b", "c"], names), "keys_int64s": ([1, 2, 3], numbers), "keys_floats": ([1.0, 2.0, 3.0], numbers.astype(np.float32))}
    values = {"values_strings": ["x", "y", "w"], "values_int64s": [7, 8, 9], "values_floats": [0.5, 0.25, 0.125]}
    for opset in (2, 3, 4):
        for key, (listed, x) in keys.items():
            for value, mapped in values.items():
                compare("LabelEncoder", x, opset=opset, default_int64=-5, default_string="none", default_float=0.75, **{key: listed, value: mapped})
                compare("LabelEncoder", x, opset=opset, **{key: listed, value: mapped})
    compare("LabelEncoder", names, opset=4, keys_tensor=helper.make_tensor("k", TensorProto.STRING, (2,), ["a", "c"]),
            values_tensor=helper.make_tensor("v", TensorProto.DOUBLE, (2,), [0.1, 0.2]),
            default_tensor=helper.make_tensor("d", TensorProto.DOUBLE, (1,), [0.3]))
    compare("LabelEncoder", np.array([np.nan, 0.0, -0.0, 1.0], np.float32), opset=4, keys_floats=[float("nan"), 0.0], values_int64s=[1, 2])
    compare("LabelEncoder", names, opset=1, classes_strings=["a", "b", "c"])
    compare("LabelEncoder", np.array([0, 2, 3, -1]), opset=1, classes_strings=["a", "b", "c"], default_string="none")
    for x in (names, numbers):
        compare("CategoryMapper", x, cats_strings=["a", "b", "c"], cats_int64s=[1, 2, 3], default_int64=-7, default_string="none")
    compare("OneHotEncoder", names, cats_strings=["b", "a"])
    with pytest.raises(RuntimeError, match="no category"):
        x = np.array([5, 1])
        ocior.InferenceSession(model("OneHotEncoder", [x], 1, cats_int64s=[1], zeros=0)).run(None, {"x0": x})


def broken(change, opset=3):
    a = forest(np.random.default_rng(0), "target", 2, 2, 3, [0])
    a["n_targets"] = 1
    change(a)
    ocior.InferenceSession(model("TreeEnsembleRegressor", [np.zeros((2, 3), np.float32)], 1, opset, **a))


def put(name, at, value):
    def change(a):
        a[name][at] = value
    return change


@pytest.mark.parametrize("change, text", [
    (put("nodes_truenodeids", 1, 0), "cycle"),
    (put("nodes_falsenodeids", 0, 0), "its own child"),
    (put("nodes_truenodeids", 0, 77), "does not exist"),
    (put("nodes_nodeids", 1, 0), "two nodes"),
    (put("nodes_featureids", 0, -1), "nodes_featureids has -1"),
    (put("nodes_featureids", 0, 2**40), "nodes_featureids has"),
    (put("nodes_featureids", 0, 3), "looks at feature 3"),
    (put("nodes_modes", 0, "BRANCH"), "nodes_modes has 'BRANCH'"),
    (put("target_ids", 0, 1), "target_ids has 1"),
    (put("target_ids", 0, -1), "target_ids has -1"),
    (put("target_nodeids", 0, 99), "does not exist"),
    (lambda a: a.update(n_targets=2**50), "number of outputs per row"),
    (lambda a: a.update(n_targets=0), "number of outputs per row"),
    (lambda a: a["nodes_values"].pop(), "nodes_values has"),
    (lambda a: a.update(base_values=[1.0, 2.0, 3.0]), "base_values has 3"),
    (lambda a: a.update(aggregate_function="SOME"), "aggregate_function is 'SOME'"),
    (lambda a: a.update(post_transform="SOME"), "post_transform is 'SOME'"),
])
def test_broken_trees_are_refused(change, text):
    with pytest.raises(RuntimeError, match=text):
        broken(change)


def test_a_tree_of_a_version_without_tensors():
    def change(a):
        values = a.pop("nodes_values")
        a["nodes_values_as_tensor"] = helper.make_tensor("v", TensorProto.DOUBLE, (len(values),), values)
    broken(change)
    with pytest.raises(RuntimeError, match="nodes_values has 0"):
        broken(change, opset=1)


@pytest.mark.parametrize("name, value, text", [
    ("tree_roots", [99], "tree_roots has 99"), ("tree_roots", [], "tree_roots is empty"), ("nodes_truenodeids", [-1] * 6, "nodes_truenodeids has -1"),
    ("nodes_truenodeids", [2**40] * 6, "nodes_truenodeids has"), ("nodes_trueleafs", [0] * 6, "nodes_truenodeids has|cycle|own child"),
    ("leaf_targetids", [5] * 8, "leaf_targetids has 5"), ("n_targets", 0, "n_targets is 0"), ("aggregate_function", 4, "aggregate_function is 4"),
    ("post_transform", -1, "post_transform is -1"),
    ("nodes_modes", helper.make_tensor("m", TensorProto.UINT8, (6,), [7] * 6), "nodes_modes has 7"),
    ("nodes_modes", helper.make_tensor("m", TensorProto.UINT8, (6,), [6] * 6), "membership_values has"),
    ("nodes_splits", helper.make_tensor("m", TensorProto.FLOAT, (2,), [0, 0]), "nodes_splits has 2"),
    ("membership_values", helper.make_tensor("m", TensorProto.FLOAT, (2,), [float("nan"), 0]), "membership_values has"),
])
def test_broken_indexed_trees_are_refused(name, value, text):
    a = indexed(np.random.default_rng(0), 2, 2, 3, 1, "float32")
    a[name] = value
    if name == "tree_roots" and not value:
        a.pop(name)
    with pytest.raises(RuntimeError, match=text):
        ocior.InferenceSession(model("TreeEnsemble", [np.zeros((2, 3), np.float32)], 1, 5, **a))


@pytest.mark.parametrize("op, attributes, text", [
    ("LinearRegressor", {}, "0 coefficients"),
    ("LinearRegressor", dict(coefficients=[1.0, 2.0], targets=2**40), "coefficients for"),
    ("LinearRegressor", dict(coefficients=[1.0, 2.0]), "3 features per row"),
    ("LinearClassifier", dict(coefficients=[1.0] * 3), "exactly one of the attributes"),
    ("LinearClassifier", dict(coefficients=[1.0] * 4, classlabels_ints=[0, 1]), "do not fit"),
    ("SVMRegressor", dict(coefficients=[1.0], rho=[0.0], n_supports=2, support_vectors=[1.0] * 6), "1 coefficients for 2"),
    ("SVMRegressor", dict(coefficients=[1.0], rho=[0.0], n_supports=-1), "-1"),
    ("SVMRegressor", dict(coefficients=[1.0] * 3), "rho"),
    ("SVMClassifier", dict(coefficients=[1.0] * 3, rho=[0.0], vectors_per_class=[2**62, 2**62], support_vectors=[1.0], classlabels_ints=[0, 1]),
     "vectors_per_class"),
    ("SVMClassifier", dict(coefficients=[1.0] * 3, rho=[0.0], vectors_per_class=[1, 1, 1], support_vectors=[1.0] * 9, classlabels_ints=[0, 1]),
     "vectors_per_class lists 3"),
    ("SVMClassifier", dict(coefficients=[1.0] * 6, rho=[0.0], vectors_per_class=[1, 1, 1], support_vectors=[1.0] * 9, classlabels_ints=[0, 1, 2]),
     "rho has 1"),
    ("Scaler", dict(scale=[1.0, 2.0]), "scale has 2"),
    ("Imputer", {}, "imputed_value"),
    ("Normalizer", dict(norm="L3"), "norm is 'L3'"),
    ("LabelEncoder", dict(keys_floats=[1.0], values_floats=[1.0, 2.0]), "1 keys for 2"),
    ("LabelEncoder", dict(keys_int64s=[1], values_floats=[1.0]), "keys are int64"),
    ("OneHotEncoder", {}, "exactly one"),
    ("FeatureVectorizer", dict(inputdimensions=[-1]), "inputdimensions has -1"),
])
def test_broken_models_are_refused(op, attributes, text):
    outputs = 2 if "Classifier" in op else 1
    with pytest.raises(RuntimeError, match=text):
        ocior.InferenceSession(model(op, [np.zeros((2, 3), np.float32)], outputs, 4, **attributes))


def map_session(op, key, value, **attributes):
    given = helper.make_value_info("x", helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, [])))
    node = helper.make_node(op, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph([node], "g", [given], [helper.make_empty_tensor_value_info("y")])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def compare_map(op, given, key, value, **attributes):
    made = map_session(op, key, value, **attributes)
    want = ort.InferenceSession(made, providers=["CPUExecutionProvider"]).run(None, {"x": given})[0]
    got = ocior.InferenceSession(made).run(None, {"x": given})[0]
    assert want.shape == got.shape and want.dtype == got.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("labels", [{"classlabels_int64s": [7, 5, 6]}, {"classlabels_strings": ["c", "a", "b"]},
                                    {"classlabels_strings": ["b", "a", "a"]}])
@pytest.mark.parametrize("shape", [(2, 3), (3,), (0, 3), (40, 3)])
def test_zip_map(labels, shape):
    x = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    made = model("ZipMap", [x], 1, **labels)
    want = ort.InferenceSession(made, providers=["CPUExecutionProvider"]).run(None, {"x0": x})[0]
    got = ocior.InferenceSession(made).run(None, {"x0": x})[0]
    assert isinstance(got, list) and got == want


def test_zip_map_refusals():
    x = np.zeros((2, 4), np.float32)
    with pytest.raises(Exception, match="ZipMap"):
        ocior.InferenceSession(model("ZipMap", [x], 1, classlabels_int64s=[1, 2, 3]))
    with pytest.raises(Exception, match="exactly one"):
        ocior.InferenceSession(model("ZipMap", [x], 1))
    with pytest.raises(Exception, match="ZipMap"):
        ocior.InferenceSession(model("ZipMap", [x.astype(np.float64)], 1, classlabels_int64s=[1, 2, 3, 4]))


@pytest.mark.parametrize("to", ["TO_FLOAT", "TO_STRING", "TO_INT64"])
@pytest.mark.parametrize("form", [{"map_form": "DENSE"}, {"map_form": "SPARSE", "max_map": 5}, {"map_form": "SPARSE", "max_map": 3}])
def test_cast_map(to, form):
    compare_map("CastMap", {3: 1.5, 1: -2.75, 0: 1e10, 4: 0.0}, TensorProto.INT64, TensorProto.FLOAT, cast_to=to, **form)


def test_cast_map_of_texts():  # which ONNX Runtime's Python cannot give
    made = lambda to: ocior.InferenceSession(map_session("CastMap", TensorProto.INT64, TensorProto.STRING, cast_to=to))
    texts = {4: "2.5", 2: "-1"}
    assert made("TO_FLOAT").run(None, {"x": texts})[0].tolist() == [[-1, 2.5]]
    assert made("TO_INT64").run(None, {"x": {4: "2", 2: "-1"}})[0].tolist() == [[-1, 2]]
    assert made("TO_STRING").run(None, {"x": texts})[0].tolist() == [["-1", "2.5"]]
    with pytest.raises(Exception, match="no number"):
        made("TO_FLOAT").run(None, {"x": {1: "abc"}})


def test_cast_map_refusals():
    for attributes, message in [({"cast_to": "TO_INT"}, "cast_to is 'TO_INT'"), ({"map_form": "LOOSE"}, "map_form is 'LOOSE'"),
                                ({"map_form": "SPARSE", "max_map": 0}, "max_map is 0")]:
        with pytest.raises(Exception, match=message):
            ocior.InferenceSession(map_session("CastMap", TensorProto.INT64, TensorProto.FLOAT, **attributes))
    with pytest.raises(Exception, match="keys of type int64"):
        ocior.InferenceSession(map_session("CastMap", TensorProto.STRING, TensorProto.FLOAT))
    run = ocior.InferenceSession(map_session("CastMap", TensorProto.INT64, TensorProto.FLOAT, map_form="SPARSE", max_map=4))
    with pytest.raises(Exception, match="the key is -1"):
        run.run(None, {"x": {-1: 1.0}})


def test_dict_vectorizer():
    words, numbers = {"string_vocabulary": ["a", "c", "b", "z", "a"]}, {"int64_vocabulary": [3, -1, 2]}
    for given in ({"a": 4.0, "c": 8.0}, {"z": 1.0, "elsewhere": 3.0}):
        compare_map("DictVectorizer", given, TensorProto.STRING, TensorProto.FLOAT, **words)
    compare_map("DictVectorizer", {-1: 4.0, 9: 1.0}, TensorProto.INT64, TensorProto.FLOAT, **numbers)
    run = lambda key, value, given, vocabulary: ocior.InferenceSession(
        map_session("DictVectorizer", key, value, **vocabulary)).run(None, {"x": given})[0].tolist()
    assert run(TensorProto.STRING, TensorProto.INT64, {"c": 5}, words) == [[0, 5, 0, 0, 0]]
    assert run(TensorProto.STRING, TensorProto.DOUBLE, {"c": 0.1}, words) == [[0, 0.1, 0, 0, 0]]
    assert run(TensorProto.INT64, TensorProto.STRING, {2: "two"}, numbers) == [["", "", "two"]]
    assert run(TensorProto.INT64, TensorProto.FLOAT, {}, numbers) == [[0, 0, 0]]
    with pytest.raises(Exception, match="keys of type int64"):
        ocior.InferenceSession(map_session("DictVectorizer", TensorProto.STRING, TensorProto.FLOAT, **numbers))
    with pytest.raises(Exception, match="exactly one"):
        ocior.InferenceSession(map_session("DictVectorizer", TensorProto.STRING, TensorProto.FLOAT))


def test_a_tensor_is_no_map():
    for op, attributes in [("CastMap", {}), ("DictVectorizer", {"int64_vocabulary": [1]})]:
        with pytest.raises(Exception, match="expected a map"):
            ocior.InferenceSession(model(op, [np.zeros(3, np.float32)], 1, **attributes))
