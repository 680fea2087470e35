"""Checkpoints that are damaged, odd or made to cost, from a seed."""

import io
import json
import pickle
import pickletools
import random
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save

from model_zoo import checkpoints
from model_zoo.reference import ModelError

EXPECTED: tuple[type[Exception], ...] = (ModelError,)
"""What a case may end with; it may also load."""

NAME = "test_vit"
SIZES = (None, None, 96, (64, 128))
SHAPES = ((), (0,), (0, 64), (1, 0, 64), (10**6, 0), (1, 1, 1, 1), (3, 2), (1, 2, 3, 4, 5))
SPECIAL = (0, 1, -1, 255, 2**15, 2**31, 2**32 - 1, 2**40, 2**63 - 1)


def cases(seed: int, count: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """So many cases as name and call; each call loads a file that is written to ``folder`` before.

    Case ``i`` of a seed is the same however many are asked for.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = timm.create_model(NAME, num_classes=3).state_dict()
    makers = (_damaged, _odd_values, _odd_structure, _opcodes, _odd_header, _odd_zip)
    wholes = {".pth": _pth(state), ".bin": _legacy(state), ".safetensors": save(state), ".npz": _npz(state)}
    for i in range(count):
        rng = random.Random(f"{seed}/{i}")
        maker = makers[i % len(makers)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.randrange(2**31))
            suffix, content = maker(rng, state, wholes)
        path = folder / f"case{suffix}"
        path.write_bytes(content)
        size = rng.choice(SIZES)
        yield f"{i} {maker.__name__.strip('_')}{suffix}", partial(checkpoints.create, NAME, path, size)


State = dict[str, torch.Tensor]
Made = tuple[str, bytes]


def _pth(content: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def _legacy(state: State) -> bytes:
    """A PyTorch file of before the zips, of one storage: the file names storages by their address in memory."""
    sizes = [value.numel() for value in state.values()]
    flat = torch.cat([value.flatten() for value in state.values()]).split(sizes)
    views = {key: part.view(state[key].shape) for key, part in zip(state, flat, strict=True)}
    out = io.BytesIO()
    torch.save(views, out, _use_new_zipfile_serialization=False)
    return re.sub(rb"X.\x00\x00\x00\d{6,}", b"X\x01\x00\x00\x000", out.getvalue(), flags=re.DOTALL)


def _npz(state: State) -> bytes:
    out = io.BytesIO()
    np.savez(out, **{key: value.numpy() for key, value in state.items()})  # type: ignore[arg-type]
    return out.getvalue()


def _damaged(rng: random.Random, state: State, wholes: dict[str, bytes]) -> Made:
    """Bytes of a whole file changed, left out, doubled or cut off, mostly near its ends, where the headers are."""
    suffix = rng.choice(list(wholes))
    content = bytearray(wholes[suffix])
    for _ in range(rng.choice((1, 1, 3, 20))):
        if not content:
            break
        reach = min(len(content), rng.choice((16, 2000, len(content))))
        at = rng.choice((rng.randrange(reach), len(content) - 1 - rng.randrange(reach)))
        match rng.randrange(5):
            case 0:
                content[at] = rng.randrange(256)
            case 1:
                content[at : at + 8] = struct.pack("<q", rng.choice(SPECIAL))
            case 2:
                del content[at : at + rng.randrange(1, 64)]
            case 3:
                content[at:at] = content[at : at + rng.randrange(1, 64)]
            case 4:
                del content[at:]
    # Now and then under the name of another kind of file.
    return (rng.choice(list(wholes)) if rng.random() < 0.1 else suffix), bytes(content)


def _odd_tensor(rng: random.Random, value: torch.Tensor) -> torch.Tensor:
    shape = tuple(value.shape)
    makers: tuple[Callable[[], torch.Tensor], ...] = (
        lambda: torch.full(shape, rng.choice((float("nan"), float("inf"), 1e38))),
        lambda: torch.zeros(shape, dtype=rng.choice((torch.int64, torch.bool, torch.complex64, torch.uint8))),
        lambda: torch.zeros(shape, dtype=rng.choice((torch.float16, torch.bfloat16, torch.float64))),
        lambda: torch.zeros(
            rng.choice(((), (0,), (0, 64), (1, 0, 64), (10**6, 0), (1, 1, 1, 1), (3, 2), (1, 2, 3, 4, 5)))
        ),
        lambda: torch.zeros(1).expand(rng.choice((10**3, 10**9, 10**15))),
        lambda: torch.zeros(1, *shape),
        lambda: torch.randn((*shape[:-1], shape[-1] + 1)) if shape else torch.zeros(2),
        lambda: torch.zeros(shape, device="meta"),
        lambda: torch.randn(1, rng.randrange(0, 400), 64),
        lambda: torch.randn(64, 3, rng.choice((1, 8, 300)), rng.choice((1, 8, 300))),
    )
    return rng.choice(makers)()


def _odd_values(rng: random.Random, state: State, _: dict[str, bytes]) -> Made:
    """Some weights of another kind or shape, left out, or under another name."""
    odd = dict(state)
    for _ in range(rng.choice((1, 1, 2, 5))):
        key = rng.choice([*state, "pos_embed", "patch_embed.proj.weight", "head.weight"])
        match rng.randrange(4):
            case 0:
                odd.pop(key, None)
            case 1:
                odd[rng.choice(_names(rng, key))] = state[key]
            case _:
                odd[key] = _odd_tensor(rng, state[key])
    return ".pth", _pth(odd)


def _names(rng: random.Random, key: str) -> tuple[str, ...]:
    prefix = "".join(rng.choices(("module.", "backbone.", "teacher.", "model."), k=rng.choice((1, 2, 500))))
    return (
        prefix + key,
        "decoder_" + key,
        "pre_logits." + key,
        key * 100,
        "\x1b[31m\n" + key,
        "",
        rng.choice(("mask_token", "visual.class_embedding", "beit3.x", "encoder", "storage_tokens", "register_tokens")),
    )


def _odd_structure(rng: random.Random, state: State, _: dict[str, bytes]) -> Made:
    """Wrappers inside wrappers, some of which refer to themselves, and what is no state at all."""
    content: Any = rng.choice((dict(state), {}, [], None, 3, "text", {"epoch": 3}, {0: torch.zeros(1)}, torch.zeros(3)))
    for _ in range(rng.choice((0, 1, 3, 200))):
        wrapper = rng.choice(("model", "state_dict", "teacher", "model_ema", "other"))
        content = [content] if rng.random() < 0.05 else {wrapper: content, "epoch": rng.random()}
    if isinstance(content, dict) and rng.random() < 0.3:
        content[rng.choice(("model", "state_dict", "self"))] = content
    return rng.choice((".pth", ".pt", ".bin")), _pth(content)


_OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
_PIECES = [
    *(bytes([code]) for code in b"}])(tNRbsuaeQ0\x81\x85\x86\x87\x88"),
    *(b"K\x05", b"q\x00", b"h\x00", b"X\x05\x00\x00\x00model", b"X\x07\x00\x00\x00storage"),
    *(b"\x8a\x08" + b"\x7f" * 8, b"\x8e" + b"\x7f" * 8),
    *(b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n"),
    *(b"ctorch\nTensor\n", b"cbuiltins\nbytearray\n", b"cbuiltins\nset\n", b"cos\nsystem\n"),
]


def _opcodes(rng: random.Random, _state: State, _wholes: dict[str, bytes]) -> Made:
    """A pickle of opcodes in any order, alone or as a PyTorch file's."""
    length = rng.choice((5, 50, 500))
    body = b"".join(rng.choice(_PIECES) if rng.random() < 0.95 else rng.choice(_OPCODES) for _ in range(length))
    if rng.random() < 0.2:  # a key of pairs of pairs
        depth = rng.choice((3, 60))
        body = b"}N\x85q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(depth)) + b"Ns"
    content = b"\x80\x02" + body + b"."
    if rng.random() < 0.5:
        return ".pth", content
    if rng.random() < 0.3:
        return ".pt", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + content
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("w/data.pkl", content)
        archive.writestr("w/byteorder", "little")
        archive.writestr("w/data/0", bytes(64))
        archive.writestr("w/version", "3\n")
    return ".pth", out.getvalue()


def _odd_header(rng: random.Random, state: State, _: dict[str, bytes]) -> Made:
    """A safetensors file or an array of an archive whose header claims something else than there is."""
    if rng.random() < 0.5:
        entries: dict[str, Any] = {
            key: {"dtype": "F32", "shape": list(value.shape), "data_offsets": [0, 4 * value.numel()]}
            for key, value in list(state.items())[: rng.choice((1, 3, 100))]
        }
        entry = entries[rng.choice(list(entries))]
        field = rng.choice(list(entry))
        entry[field] = rng.choice(([], [10**15], [-1], [0, 10**15], "F4", "I64", "BOOL", None, {}, [0] * 1000))
        header = json.dumps(entries).encode()
        told = rng.choice((len(header), len(header), rng.choice(SPECIAL) % 2**64))
        return ".safetensors", struct.pack("<Q", told) + header + bytes(rng.choice((0, 64, 4096)))
    shape = rng.choice(((10**15,), (2**31, 2**31, 2**31), (-1,), (), (0,), (16,), (4, 4), (1,) * 40))
    kind = rng.choice(("<f4", ">f4", "<f8", "|O", "<c8", "<i4", "|V2", "|S8", "nonsense", "<M8[s]"))
    names = ("embedding/kernel", "cls", "head/bias", "pre_logits/bias", "params/embedding/kernel", "../x", "\x1b[2J")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in rng.sample(names, rng.choice((1, 2, 6))):
            header_text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
            size = struct.pack("<H", rng.choice((len(header_text), len(header_text), 65535, 0)))
            content = (
                b"\x93NUMPY" + bytes((rng.choice((1, 1, 1, 2, 3, 9)), 0)) + size + header_text.encode() + bytes(64)
            )
            archive.writestr(name + rng.choice((".npy", ".npy", "")), content)
    return ".npz", out.getvalue()


def _odd_zip(rng: random.Random, state: State, wholes: dict[str, bytes]) -> Made:
    """The parts of a PyTorch file or an archive compressed, doubled, left out, renamed or blown up."""
    suffix = rng.choice((".pth", ".npz"))
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wholes[suffix])) as old, zipfile.ZipFile(out, "w") as new:
        members = old.infolist()
        chosen = {member.filename for member in rng.sample(members, min(3, len(members)))}
        kind = rng.randrange(4)
        for member in members:
            content, name = old.read(member), member.filename
            if name in chosen:
                content = (content, content * 2, b"", bytes(2**24))[kind]
                name = rng.choice((name, name, name.upper(), "/" + name, "x/" + name))
            new.writestr(name, content, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    return suffix, out.getvalue()
