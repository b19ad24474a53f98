#!/usr/bin/env python3
"""Writes tiny checkpoints for the converter's tests: every family, head and container, with reference.npz from a forward pass in
numpy.

usage: make_checkpoints.py FOLDER [--all]
Without --all only the few that lie in tests/data/checkpoints. The forward pass follows the models' papers and Hugging Face
Transformers' modelling code in meaning (post-norm encoders, float64) and shares nothing with the C++ converter. torch is not
needed: its files are written by Python's own pickler through stand-ins for torch's classes.
"""
import argparse
import collections
import io
import json
import math
import pathlib
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

ERF = np.vectorize(math.erf)
ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + ERF(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))),
    "gelu_pytorch_tanh": lambda x: ACTIVATIONS["gelu_new"](x),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
BERT_LAYER = ("encoder.layer", "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
              "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")
DISTIL_LAYER = ("transformer.layer", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
                "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm")


class Model:
    """A random model of one family and task: config, state dict and forward pass."""

    def __init__(self, family, task, seed, hidden=8, embedding=None, layers=2, heads=2, inner=12, vocab=24, positions=10,
                 labels=3, act="gelu", eps=1e-12, tied=True, pooler=True):
        self.family, self.task, self.rng = family, task, np.random.default_rng(seed)
        self.hidden, self.embedding, self.layers, self.heads = hidden, embedding or hidden, layers, heads
        self.inner, self.vocab, self.positions, self.labels = inner, vocab, positions, labels
        self.act, self.eps, self.tied, self.pooler = act, 1e-12 if family == "distilbert" else eps, tied, pooler
        self.base = family + "."
        self.state = collections.OrderedDict()
        self.make()

    def tensor(self, name, *shape, scale=0.3):
        self.state[name] = (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def linear(self, name, out, into):
        self.tensor(name + ".weight", out, into)
        self.tensor(name + ".bias", out)

    def norm(self, name, size):
        self.tensor(name + ".weight", size)
        self.state[name + ".weight"] += 1
        self.tensor(name + ".bias", size)

    def make(self):
        b, h, e = self.base, self.hidden, self.embedding
        self.tensor(b + "embeddings.word_embeddings.weight", self.vocab, e)
        self.tensor(b + "embeddings.position_embeddings.weight", self.positions, e)
        if self.family != "distilbert":
            self.tensor(b + "embeddings.token_type_embeddings.weight", 2, e)
        self.norm(b + "embeddings.LayerNorm", e)
        if e != h:
            self.linear(b + "embeddings_project", h, e)
        names = DISTIL_LAYER if self.family == "distilbert" else BERT_LAYER
        for i in range(self.layers):
            p = f"{b}{names[0]}.{i}."
            for n in names[1:5]:
                self.linear(p + n, h, h)
            self.norm(p + names[5], h)
            self.linear(p + names[6], self.inner, h)
            self.linear(p + names[7], h, self.inner)
            self.norm(p + names[8], h)
        if self.family == "bert" and (self.task == "text-classification" or (self.task == "feature-extraction" and self.pooler)):
            self.linear(b + "pooler.dense", h, h)
        self.make_head()

    def make_head(self):
        h, e = self.hidden, self.embedding
        if self.task == "question-answering":
            self.linear("qa_outputs", 2, h)
        elif self.task == "token-classification":
            self.linear("classifier", self.labels, h)
        elif self.task == "text-classification":
            if self.family == "electra":
                self.linear("classifier.dense", h, h)
                self.linear("classifier.out_proj", self.labels, h)
            else:
                if self.family == "distilbert":
                    self.linear("pre_classifier", h, h)
                self.linear("classifier", self.labels, h)
        elif self.task == "pre-training":
            self.linear("discriminator_predictions.dense", h, h)
            self.linear("discriminator_predictions.dense_prediction", 1, h)
        elif self.task == "fill-mask":
            dense, norm, decoder = self.mask_names()
            self.linear(dense, e, h)
            self.norm(norm, e)
            self.linear(decoder, self.vocab, e)
            if self.tied:
                self.state[decoder + ".weight"] = self.state[self.base + "embeddings.word_embeddings.weight"]

    def mask_names(self):
        return {"bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder"),
                "distilbert": ("vocab_transform", "vocab_layer_norm", "vocab_projector"),
                "electra": ("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head")}[self.family]

    def config(self):
        heads = {"question-answering": "ForQuestionAnswering", "token-classification": "ForTokenClassification",
                 "text-classification": "ForSequenceClassification", "fill-mask": "ForMaskedLM", "feature-extraction": "Model",
                 "pre-training": "ForPreTraining"}
        prefix = {"bert": "Bert", "distilbert": "DistilBert", "electra": "Electra"}[self.family]
        config = {"architectures": [prefix + heads[self.task]], "model_type": self.family, "vocab_size": self.vocab,
                  "max_position_embeddings": self.positions, "pad_token_id": 0}
        if self.family == "distilbert":
            config |= {"dim": self.hidden, "n_layers": self.layers, "n_heads": self.heads, "hidden_dim": self.inner,
                       "activation": self.act}
        else:
            config |= {"hidden_size": self.hidden, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                       "intermediate_size": self.inner, "hidden_act": self.act, "type_vocab_size": 2, "layer_norm_eps": self.eps}
        if self.family == "electra":
            config["embedding_size"] = self.embedding
        if "classification" in self.task:
            config["id2label"] = {str(i): f"label {i}" for i in range(self.labels)}
        if not self.tied:
            config["tie_word_embeddings"] = False
        return config

    # The forward pass, in float64.
    def w(self, name):
        return self.state[name].astype(np.float64)

    def apply_linear(self, name, x):
        return x @ self.w(name + ".weight").T + self.w(name + ".bias")

    def apply_norm(self, name, x):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w(name + ".weight") + self.w(name + ".bias")

    def encode(self, ids, mask, token_types):
        b, h = self.base, self.hidden
        x = self.w(b + "embeddings.word_embeddings.weight")[ids]
        x = x + self.w(b + "embeddings.position_embeddings.weight")[:ids.shape[1]]
        if self.family != "distilbert":
            x = x + self.w(b + "embeddings.token_type_embeddings.weight")[token_types]
        x = self.apply_norm(b + "embeddings.LayerNorm", x)
        if self.embedding != h:
            x = self.apply_linear(b + "embeddings_project", x)
        names = DISTIL_LAYER if self.family == "distilbert" else BERT_LAYER
        for i in range(self.layers):
            p = f"{b}{names[0]}.{i}."
            split = lambda t: t.reshape(*ids.shape, self.heads, h // self.heads).transpose(0, 2, 1, 3)
            q, k, v = (split(self.apply_linear(p + n, x)) for n in names[1:4])
            scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(h // self.heads)
            scores = np.where(mask[:, None, None, :] == 1, scores, -1e30)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            joined = (weights @ v).transpose(0, 2, 1, 3).reshape(*ids.shape, h)
            x = self.apply_norm(p + names[5], x + self.apply_linear(p + names[4], joined))
            inner = ACTIVATIONS[self.act](self.apply_linear(p + names[6], x))
            x = self.apply_norm(p + names[8], x + self.apply_linear(p + names[7], inner))
        return x

    def forward(self, ids, mask, token_types):
        x = self.encode(ids, mask, token_types)
        act = ACTIVATIONS[self.act]
        if self.task == "question-answering":
            y = self.apply_linear("qa_outputs", x)
            return {"start_logits": y[..., 0], "end_logits": y[..., 1]}
        if self.task == "token-classification":
            return {"logits": self.apply_linear("classifier", x)}
        if self.task == "text-classification":
            first = x[:, 0]
            if self.family == "electra":
                inner = ACTIVATIONS["gelu"](self.apply_linear("classifier.dense", first))
                return {"logits": self.apply_linear("classifier.out_proj", inner)}
            if self.family == "distilbert":
                return {"logits": self.apply_linear("classifier", np.maximum(self.apply_linear("pre_classifier", first), 0))}
            return {"logits": self.apply_linear("classifier", np.tanh(self.apply_linear(self.base + "pooler.dense", first)))}
        if self.task == "pre-training":
            y = act(self.apply_linear("discriminator_predictions.dense", x))
            return {"logits": self.apply_linear("discriminator_predictions.dense_prediction", y)[..., 0]}
        if self.task == "fill-mask":
            dense, norm, decoder = self.mask_names()
            y = (ACTIVATIONS["gelu"] if self.family == "electra" else act)(self.apply_linear(dense, x))
            return {"logits": self.apply_linear(decoder, self.apply_norm(norm, y))}
        if self.family == "bert" and self.pooler:
            return {"last_hidden_state": x, "pooler_output": np.tanh(self.apply_linear(self.base + "pooler.dense", x[:, 0]))}
        return {"last_hidden_state": x}

    def reference(self):
        ids = self.rng.integers(1, self.vocab, (3, 7))
        mask = np.ones_like(ids)
        mask[1, 5:] = mask[2, 2:] = 0
        token_types = np.zeros_like(ids)
        token_types[:, 3:] = 1
        out = {"in:input_ids": ids, "in:attention_mask": mask}
        if self.family != "distilbert":
            out["in:token_type_ids"] = token_types
        return out | {"out:" + k: v.astype(np.float32) for k, v in self.forward(ids, mask, token_types).items()}


# ---- containers

def write_safetensors(path, state, dtype="F32"):
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, value in state.items():
        if dtype == "BF16":
            blob = (np.ascontiguousarray(value, np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        else:
            blob = value.astype({"F32": np.float32, "F16": np.float16, "F64": np.float64}[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def stand_in(module, name):
    """A class or function that pickles as module.name."""
    thing = type(name.split(".")[-1], (), {"__module__": module})
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    setattr(sys.modules[module], name, thing)
    return thing


REBUILD = {n: stand_in("torch._utils", n)
           for n in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")}
STORAGES = {n: stand_in("torch", n) for n in ("FloatStorage", "HalfStorage", "DoubleStorage", "LongStorage", "BFloat16Storage")}
UNTYPED, FLOAT32 = stand_in("torch.storage", "UntypedStorage"), stand_in("torch", "float32")
STORAGE_OF = {np.dtype(np.float32): "FloatStorage", np.dtype(np.float16): "HalfStorage", np.dtype(np.float64): "DoubleStorage",
              np.dtype(np.int64): "LongStorage"}


class Storage:
    """view: (key, offset, size) of a part, as old torch files name the parts of a shared storage."""

    def __init__(self, array, key, view=None):
        self.array, self.key, self.view = array, str(key), view


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class TorchPickler(pickle.Pickler):
    def __init__(self, file, protocol, legacy, untyped=False):
        super().__init__(file, protocol)
        self.legacy, self.untyped = legacy, untyped

    def persistent_id(self, thing):
        if not isinstance(thing, Storage):
            return None
        kind, count = STORAGES[STORAGE_OF[thing.array.dtype]], thing.array.size
        if thing.view:
            return ("storage", kind, thing.key, "cpu", count, thing.view)
        if self.untyped:
            kind, count = UNTYPED, thing.array.nbytes
        return ("storage", kind, thing.key, "cpu", count) + ((None,) if self.legacy else ())


def as_calls(state, rebuild="_rebuild_tensor_v2", shared=False, strided=False, parameters=False, views=False):
    """The state dict as torch pickles it, and its storages. shared: one storage for all tensors, named by offset or, with views,
    by parts of it; strided: matrices stored transposed."""
    out, storages, by_id = collections.OrderedDict(), [], {}
    pool, at = None, 3
    if shared:
        pool = Storage(np.zeros(at + sum(v.size for v in state.values()), np.float32), 0)
        storages.append(pool)
    for name, value in state.items():
        array = value.T if strided and value.ndim == 2 else value
        strides = tuple(int(np.prod(array.shape[i + 1:])) for i in range(array.ndim))
        if strided and value.ndim == 2:
            strides = strides[::-1]
        if shared:
            storage, offset = pool, at
            pool.array[at:at + value.size] = array.ravel()
            if views:
                storage, offset = Storage(pool.array, 0, (f"view{at}", at, value.size)), 0
            at += value.size
        else:
            if id(value) not in by_id:
                by_id[id(value)] = Storage(np.ascontiguousarray(array).ravel(), len(storages))
                storages.append(by_id[id(value)])
            storage, offset = by_id[id(value)], 0
        arguments = (storage, offset, tuple(value.shape), strides)
        if rebuild != "_rebuild_tensor":
            arguments += (False, collections.OrderedDict())
        if rebuild == "_rebuild_tensor_v3":
            arguments += (FLOAT32,)
        call = Call(REBUILD[rebuild], *arguments)
        out[name] = Call(REBUILD["_rebuild_parameter"], call, True, collections.OrderedDict()) if parameters else call
    return out, storages


def pickled(value, protocol=2, legacy=False, untyped=False):
    buffer = io.BytesIO()
    TorchPickler(buffer, protocol, legacy, untyped).dump(value)
    return buffer.getvalue()


def with_metadata(state):
    """torch's state_dict() carries an attribute, which reaches the pickle as a BUILD opcode."""
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    return state


def write_zip(path, state, protocol=2, zip64=False, big_endian=False, untyped=False, **layout):
    calls, storages = as_calls(state, **layout)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        def put(name, data):
            info = zipfile.ZipInfo("archive/" + name)
            with archive.open(info, "w", force_zip64=zip64) as f:
                f.write(data)
        put("data.pkl", pickled(with_metadata(calls), protocol, untyped=untyped))
        put("byteorder", b"big" if big_endian else b"little")
        for storage in storages:
            array = storage.array.byteswap() if big_endian else storage.array
            put("data/" + storage.key, array.tobytes())
        put("version", b"3\n")


def write_legacy(path, state, protocol=2, **layout):
    calls, storages = as_calls(state, **layout)
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickled(v, protocol) for v in (0x1950a86a20f9469cfc6c, 1001, info)]
    parts.append(pickled(with_metadata(calls), protocol, legacy=True))
    parts.append(pickled(sorted(s.key for s in storages), protocol))
    for storage in sorted(storages, key=lambda s: s.key):
        parts.append(struct.pack("<q", storage.array.size) + storage.array.tobytes())
    path.write_bytes(b"".join(parts))


def write_sharded(folder, state, stem, suffix, write):
    names = list(state)
    files = [f"{stem}-0000{i + 1}-of-00002{suffix}" for i in range(2)]
    parts = [names[:len(names) // 2], names[len(names) // 2:]]
    for file, part in zip(files, parts):
        write(folder / file, collections.OrderedDict((n, state[n]) for n in part))
    index = {"metadata": {"total_size": sum(v.nbytes for v in state.values())},
             "weight_map": {n: f for f, part in zip(files, parts) for n in part}}
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index))


def safetensors(dtype="F32"):
    return lambda folder, state: write_safetensors(folder / "model.safetensors", state, dtype)


def torch_zip(**options):
    return lambda folder, state: write_zip(folder / "pytorch_model.bin", state, **options)


def torch_legacy(**options):
    return lambda folder, state: write_legacy(folder / "pytorch_model.bin", state, **options)


def sharded_safetensors(folder, state):
    write_sharded(folder, state, "model", ".safetensors", write_safetensors)


# ---- changes to a state dict that checkpoints in the wild show

def bare(state, model):
    """A checkpoint of the encoder alone, without the family's prefix."""
    return collections.OrderedDict((n.removeprefix(model.base), v) for n, v in state.items())


def gamma_beta(state, model):
    swap = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    out = collections.OrderedDict()
    for name, value in state.items():
        for new, old in swap.items():
            name = name.replace(new, old)
        out[name] = value
    return out


def without_decoder(state, model):
    """Tied decoders are often left out; BERT's bias then has its old name."""
    decoder = model.mask_names()[2]
    out = collections.OrderedDict((n, v) for n, v in state.items() if n != decoder + ".weight")
    if model.family == "bert":
        out["cls.predictions.bias"] = out.pop(decoder + ".bias")
    return out


def with_buffers(state, model):
    out = collections.OrderedDict(state)
    out[model.base + "embeddings.position_ids"] = np.arange(model.positions, dtype=np.float32).reshape(1, -1)
    return out


SMALL = {"hidden": 4, "layers": 1, "inner": 6, "vocab": 12, "positions": 8}
# name → (family, task, model options, container, changes to the state dict); the first ones lie in tests/data/checkpoints.
CHECKPOINTS = {
    "tiny-distilbert-qa": ("distilbert", "question-answering", SMALL, safetensors(), []),
    "tiny-bert-mlm-zip": ("bert", "fill-mask", SMALL, torch_zip(shared=True, strided=True), []),
    "tiny-electra-token-legacy": ("electra", "token-classification", SMALL | {"embedding": 2}, torch_legacy(), []),
    "tiny-bert-features-sharded": ("bert", "feature-extraction", SMALL, sharded_safetensors, []),
    "bert-features-gamma-bare": ("bert", "feature-extraction", {"act": "relu", "eps": 1e-5}, torch_zip(),
                                 [gamma_beta, bare, with_buffers]),
    "bert-features-no-pooler": ("bert", "feature-extraction", {"pooler": False}, safetensors("F64"), []),
    "bert-seqcls-silu": ("bert", "text-classification", {"act": "silu"}, torch_zip(parameters=True), []),
    "bert-qa-tanh": ("bert", "question-answering", {"act": "tanh"}, torch_legacy(rebuild="_rebuild_tensor"), []),
    "bert-mlm-untied": ("bert", "fill-mask", {"tied": False}, safetensors(), []),
    "bert-mlm-no-decoder": ("bert", "fill-mask", {"act": "gelu_new"}, torch_zip(protocol=4), [without_decoder]),
    "distilbert-features-bare": ("distilbert", "feature-extraction", {}, safetensors(), [bare]),
    "distilbert-seqcls": ("distilbert", "text-classification", {"act": "gelu_pytorch_tanh"}, torch_zip(zip64=True), []),
    "distilbert-token": ("distilbert", "token-classification", {"act": "relu"}, torch_zip(big_endian=True), []),
    "distilbert-mlm-no-decoder": ("distilbert", "fill-mask", {}, torch_legacy(protocol=5), [without_decoder]),
    "distilbert-one-label": ("distilbert", "text-classification", {"labels": 1, "heads": 1},
                             torch_zip(untyped=True, rebuild="_rebuild_tensor_v3"), []),
    "electra-qa": ("electra", "question-answering", {}, safetensors(), []),
    "electra-seqcls": ("electra", "text-classification", {"embedding": 6}, safetensors(), []),
    "electra-mlm": ("electra", "fill-mask", {"embedding": 6, "act": "relu"}, torch_zip(protocol=3), []),
    "electra-mlm-no-decoder": ("electra", "fill-mask", {"embedding": 6}, safetensors(), [without_decoder]),
    "electra-discriminator": ("electra", "pre-training", {"embedding": 6}, torch_zip(strided=True), []),
    "electra-token-views": ("electra", "token-classification", {}, torch_legacy(shared=True, views=True), []),
    "electra-features": ("electra", "feature-extraction", {"eps": 1e-3}, safetensors(), []),
}
IN_REPOSITORY = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    for seed, (name, (family, task, options, write, changes)) in enumerate(CHECKPOINTS.items()):
        if seed >= IN_REPOSITORY and not args.all:
            break
        folder = args.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        model = Model(family, task, seed, **options)
        state = model.state
        for change in changes:
            state = change(state, model)
        write(folder, state)
        (folder / "config.json").write_text(json.dumps(model.config(), indent=1) + "\n")
        np.savez_compressed(folder / "reference.npz", **model.reference())


if __name__ == "__main__":
    main()
