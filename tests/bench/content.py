"""Models to be fetched: random bytes on disk, and what a store would say of them."""

import base64
import hashlib
import os
import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from awscrt import checksums

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_NOISE_BYTES = 32 * MIB
_BLOCK = 8 * MIB


@dataclass(frozen=True)
class File:
    name: str
    path: Path
    size: int
    crc32c: str
    crc64nvme: str
    """Both in base64, as stores state them."""

    @property
    def etag(self) -> str:
        """As nginx makes it."""
        return f"{int(self.path.stat().st_mtime):x}-{self.size:x}"

    @cached_property
    def sha256(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Model:
    name: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def sizes(name: str, scale: float) -> Mapping[str, int]:
    """Files and sizes of a model by its name."""
    match name:
        case "one":
            return {"model.safetensors": _scaled(4 * GIB, scale)}
        case "shards":
            shards = {
                f"model-{n:05}-of-00008.safetensors": _scaled(512 * MIB, scale) for n in range(1, 9)
            }
            return {**shards, **{f"tokenizer-{n:02}.json": (n + 1) * 16 * KIB for n in range(40)}}
        case "small":
            return {f"file-{n:05}.bin": 20 * KIB for n in range(int(5000 * scale))}
        case "many":
            return {f"file-{n:05}.bin": KIB for n in range(int(50_000 * scale))}
        case "warm":
            return {"config.json": KIB}
        case _ if name.startswith("tiny"):
            return {f"file-{n:02}.bin": 64 * KIB for n in range(10)}
        case _:
            return {"model.safetensors": _scaled(512 * MIB, scale)}


def make(name: str, folder: Path, scale: float) -> Model:
    """Write the model's files below `folder`, incompressible, no two alike."""
    folder.mkdir(parents=True)
    noise = memoryview(os.urandom(_NOISE_BYTES))

    def one(item: tuple[str, int]) -> File:
        return _write(folder / item[0], item[1], noise)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return Model(name, tuple(pool.map(one, sizes(name, scale).items())))


def _write(path: Path, size: int, noise: memoryview) -> File:
    crc32c = crc64nvme = written = 0
    with path.open("wb", buffering=0) as file:
        while written < size:
            count = min(_BLOCK, size - written)
            start = random.randrange(len(noise) - count)
            # Aligned copies would leave the same bytes at the same places of every block.
            data = bytes(noise[start : start + count])
            file.write(data)
            crc32c = checksums.crc32c(data, crc32c)
            crc64nvme = checksums.crc64nvme(data, crc64nvme)
            written += count
    return File(path.name, path, size, _base64(crc32c, 4), _base64(crc64nvme, 8))


def _base64(value: int, length: int) -> str:
    return base64.b64encode(value.to_bytes(length, "big")).decode()


def _scaled(size: int, scale: float) -> int:
    return max(MIB, int(size * scale) // MIB * MIB)
