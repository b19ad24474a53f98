"""Small ONNX files written by hand (onnx.proto, field numbers in comments), so that tests need no package."""
FLOAT, INT64, STRING = 1, 7, 8


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def number(field, value):
    return varint(field << 3) + varint(value)


def message(field, *parts):
    body = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(body)) + body


def text(field, value):
    return message(field, value.encode())


def value(name, dtype, dims):
    """A ValueInfoProto's body: name 1, type 2 {tensor 1 {elem_type 1, shape 2 {dim 1 {value 1 or param 2}}}}."""
    shape = b"".join(message(1, number(1, d) if isinstance(d, int) else text(2, d)) for d in dims)
    return text(1, name) + message(2, message(1, number(1, dtype), message(2, shape)))


def node(op, inputs, outputs, name):
    """A NodeProto's body: input 1, output 2, name 3, op_type 4."""
    return b"".join(text(1, i) for i in inputs) + b"".join(text(2, o) for o in outputs) + text(3, name) + text(4, op)


def model(nodes, inputs, outputs):
    """ModelProto: ir_version 1, graph 7 {node 1, name 2, input 11, output 12}, opset_import 8 {version 2}."""
    graph = [message(1, n) for n in nodes] + [text(2, "small")] + [message(11, i) for i in inputs] + [message(12, o) for o in outputs]
    return number(1, 8) + message(7, *graph) + message(8, number(2, 17))


def small():
    """y = x + x for x of float [batch, 3]; n = -ids for ids of int64 [batch, length]."""
    return model([node("Add", ["x", "x"], ["y"], "double"), node("Neg", ["ids"], ["n"], "negate")],
                 [value("x", FLOAT, ["batch", 3]), value("ids", INT64, ["batch", "length"])],
                 [value("y", FLOAT, ["batch", 3]), value("n", INT64, ["batch", "length"])])
