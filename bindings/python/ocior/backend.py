"""Ocior as a backend of the `onnx` package (onnx.backend.base), for its official test runner and for programs written against it:

    import onnx, ocior.backend
    outputs = ocior.backend.run_model(onnx.load("model.onnx"), [array])
"""
import onnx
from onnx import helper
from onnx.backend.base import Backend, BackendRep, namedtupledict

from . import InferenceSession, InvalidArgument

__all__ = ["OciorBackend", "OciorBackendRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]


class OciorBackendRep(BackendRep):
    """A prepared model."""

    def __init__(self, session):
        self._session = session
        self._inputs = [i.name for i in session.get_inputs()]
        self._outputs = [o.name for o in session.get_outputs()]

    def run(self, inputs, **kwargs):
        """Runs the model. inputs: a list or tuple in the order of the model's inputs, a dict by name, or one array for a model of one input.
        Returns a named tuple of the outputs."""
        if kwargs:
            raise TypeError(f"run: unexpected arguments {', '.join(sorted(kwargs))}")
        if isinstance(inputs, dict):
            feeds = inputs
        else:
            if not isinstance(inputs, (list, tuple)):
                inputs = [inputs]
            if len(inputs) > len(self._inputs):
                raise InvalidArgument(f"the model has {len(self._inputs)} inputs ({', '.join(self._inputs)}), got {len(inputs)}")
            feeds = dict(zip(self._inputs, inputs))
        return namedtupledict("Outputs", self._outputs)(*self._session.run(None, feeds))


class OciorBackend(Backend):
    """The classmethods that `onnx.backend.base.Backend` describes; the module offers them as functions too."""

    @classmethod
    def is_compatible(cls, model, device="CPU", **kwargs):
        """Whether the model loads on the device."""
        try:
            cls.prepare(model, device, **kwargs)
        except RuntimeError:
            return False
        return True

    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        """Loads `model`: a ModelProto, bytes, a path or an InferenceSession. Keyword arguments go to InferenceSession."""
        if not cls.supports_device(device):
            raise InvalidArgument(f"device '{device}' is not supported; use 'CPU'")
        if isinstance(model, InferenceSession):
            return OciorBackendRep(model)
        if isinstance(model, onnx.ModelProto):
            onnx.checker.check_model(model)
            model = model.SerializeToString()
        return OciorBackendRep(InferenceSession(model, providers=["CPUExecutionProvider"], **kwargs))

    @classmethod
    def run_model(cls, model, inputs, device="CPU", **kwargs):
        """Loads the model and runs it once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(cls, node, inputs, device="CPU", outputs_info=None, **kwargs):
        """Runs one node on arrays. opset_version (keyword): of the node's domain; the newest otherwise."""
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        names = [name for name in node.input if name]
        feeds = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in zip(names, inputs)]
        results = [onnx.ValueInfoProto(name=name) for name in node.output]
        graph = helper.make_graph([node], "node", feeds, results)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])
        return cls.prepare(model.SerializeToString(), device, **kwargs).run(list(inputs))

    @classmethod
    def supports_device(cls, device):
        """device: "CPU" or "CPU:0"."""
        return device in ("CPU", "CPU:0")


is_compatible = OciorBackend.is_compatible
prepare = OciorBackend.prepare
run_model = OciorBackend.run_model
run_node = OciorBackend.run_node
supports_device = OciorBackend.supports_device
