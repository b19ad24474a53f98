"""Ocior runs ONNX models. Programs written for onnxruntime run with the import changed:

    import ocior as onnxruntime
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"x": array})
"""
import enum
import os

from . import _ocior
from ._ocior import (EPFail, EngineError, Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, ModelLoadCanceled, ModelLoaded, ModelMetadata,
                     ModelRequiresCompilation, NoModel, NodeArg, NoSuchFile, NotFound, NotImplemented, RunOptions, RuntimeException,
                     SessionOptions, __version__)

__all__ = ["EPFail", "EngineError", "Fail", "GraphOptimizationLevel", "InferenceSession", "InvalidArgument", "InvalidGraph", "InvalidProtobuf",
           "ModelLoadCanceled", "ModelLoaded", "ModelMetadata", "ModelRequiresCompilation", "NoModel", "NoSuchFile", "NodeArg", "NotFound",
           "NotImplemented", "RunOptions", "RuntimeException", "SessionOptions", "get_available_providers", "get_device"]


class GraphOptimizationLevel(enum.IntEnum):
    """How much of the simplification runs: none, cleaning only, cleaning and fusing, all."""
    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_ALL = 99


def get_available_providers():
    """Providers compiled into this build, best first."""
    return _ocior.available_providers()


def get_device():
    """"CPU": the kind of device that sessions use by default."""
    return "CPU"


def _provider_list(providers, provider_options):
    """onnxruntime's forms: names, (name, options) pairs, and a parallel list of options."""
    if provider_options is not None and len(provider_options) != len(providers or ()):
        raise ValueError("provider_options must have as many entries as providers")
    out = []
    for i, provider in enumerate(providers or ()):
        name, options = provider if isinstance(provider, tuple) else (provider, {})
        if provider_options is not None:
            options = provider_options[i]
        if not isinstance(name, str):
            raise ValueError(f"a provider is a name or a (name, options) pair, got {provider!r}")
        out.append((name, {str(k): str(v) for k, v in options.items()}))
    return out


class InferenceSession:
    """A loaded model. run() may be called from many threads at once.

    path_or_bytes: a path (str or os.PathLike) or the bytes of a model. sess_options: SessionOptions. providers: names in order of
    preference; one that this machine lacks is left out with a warning. Raises InvalidArgument, NoSuchFile, InvalidProtobuf, InvalidGraph,
    NotImplemented and Fail, all RuntimeErrors.
    """

    def __init__(self, path_or_bytes, sess_options=None, providers=None, provider_options=None, **kwargs):
        if kwargs:
            raise TypeError(f"InferenceSession: unexpected arguments {', '.join(sorted(kwargs))}")
        if isinstance(path_or_bytes, (bytearray, memoryview)):
            path_or_bytes = bytes(path_or_bytes)
        elif not isinstance(path_or_bytes, bytes):
            path_or_bytes = os.fspath(path_or_bytes)
        self._options = sess_options if sess_options is not None else SessionOptions()
        self._session = _ocior.load(path_or_bytes, self._options, _provider_list(providers, provider_options))
        self._run = self._session.run

    def run(self, output_names, input_feed, run_options=None):
        """Runs the model. output_names: list of names, or None for all. input_feed: {name: array}. Returns a list of arrays."""
        return self._run(output_names, input_feed, run_options)

    def get_inputs(self):
        """The inputs as NodeArg (name, type, shape)."""
        return self._session.inputs()

    def get_outputs(self):
        """The outputs as NodeArg (name, type, shape)."""
        return self._session.outputs()

    def get_overridable_initializers(self):
        """Initializers that may be fed as inputs, as NodeArg."""
        return self._session.overridable_initializers()

    def get_modelmeta(self):
        """The model's ModelMetadata."""
        return self._session.metadata()

    def get_providers(self):
        """The providers in use, in order of preference."""
        return self._session.providers()

    def get_session_options(self):
        """The SessionOptions that this session was made with."""
        return self._options

    def explain(self, json=False):
        """Which fusions fired, and what every step runs on, as text or JSON."""
        return self._session.explain(json)
