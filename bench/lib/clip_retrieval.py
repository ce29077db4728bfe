"""clip-retrieval 2.45.0: its ``inference`` command, and its back over the same vectors as ours."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.cores import cores
from lib.clustered_rows import NAME
from lib.other_programs import environment as other_environment
from lib.other_programs import run, started
from lib.samples import ARTIFACTS
from lib.serving import free_ports
from lib.watched import Watched, watched

Vectors = npt.NDArray[np.float32]

_INDEX = ["--max_index_memory_usage", "4G", "--current_memory_available", "16G", "--nb_cores", str(os.cpu_count())]
_BACK = ["--enable_mclip_option", "False", "--provide_aesthetic_embeddings", "False"]


@dataclass(frozen=True)
class Inference:
    """Its ``inference`` command, for a checkpoint in a folder."""

    program: Path
    checkpoint: str

    def embed(self, photos: Sequence[Path]) -> tuple[float, Vectors]:
        """Return seconds by its own clock, which leaves out its start and the loading of the checkpoint; float32 [N, D]."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "photos").mkdir()
            for n, photo in enumerate(photos):
                (folder / "photos" / f"{n:06}.jpg").symlink_to(photo.resolve())
            run(self.program, "inference", *self._flags(folder, str(folder / "photos")))
            stats = json.loads((folder / "embeddings" / "stats" / "0.json").read_text(encoding="utf-8"))
            vectors = np.load(folder / "embeddings" / "img_emb" / "img_emb_0.npy").astype(np.float32)
        return stats["total_duration"], vectors

    def timed(self, kind: str, source: Path, count: int) -> tuple[float, Watched]:
        """Embed a folder of files or of shards (``files``, ``webdataset``); return seconds by its own clock, and its use."""
        with tempfile.TemporaryDirectory() as name:
            shards = ["--wds_number_file_per_input_file", str(count), "--output_partition_count", "1"]
            flags = [*self._flags(Path(name), self._location(kind, source)), "--input_format", kind]
            used = watched([self.program, "inference", *flags, *(shards if kind == "webdataset" else [])], other_environment())
            stats = json.loads((Path(name) / "embeddings" / "stats" / "0.json").read_text(encoding="utf-8"))
        return stats["total_duration"], used

    def _location(self, kind: str, source: Path) -> str:
        if kind == "files":
            return str(source)
        names = sorted(path.stem for path in source.glob("*.tar"))
        return f"{source}/{{{names[0]}..{names[-1]}}}.tar"

    def _flags(self, folder: Path, source: str) -> list[str]:
        options = {
            "input_dataset": source,
            "output_folder": folder / "embeddings",
            "clip_model": f"hf_clip:{self.checkpoint}",
            "enable_text": False,
            "batch_size": 32,
            "num_prepro_workers": cores(),
        }
        return [part for name, value in options.items() for part in (f"--{name}", str(value))]


@contextlib.contextmanager
def back(peers: Path, checkpoint: str, vectors: Vectors) -> Iterator[str]:
    """Serve ``vectors`` [N, D]; give the URL of its knn-service. The index is built once, with its own defaults."""
    program, [port] = peers / "clip-retrieval" / "bin" / "clip-retrieval", free_ports(1)
    paths = _indexed(program, vectors)
    options = ["--port", str(port), "--indices-paths", str(paths), "--clip_model", f"hf_clip:{checkpoint}", *_BACK]
    with started(program, ["back", *options], f"http://127.0.0.1:{port}/indices-list"):
        yield f"http://127.0.0.1:{port}/knn-service"


def _indexed(program: Path, vectors: Vectors) -> Path:
    """Build the index, unless it is there; return the file that names it."""
    folder = ARTIFACTS / f"clip-retrieval-{len(vectors)}x{vectors.shape[1]}"
    paths, embeddings = folder / "indices.json", folder / "embeddings"
    if not paths.exists():
        _write_embeddings(embeddings, vectors)
        run(program, "index", "--embeddings_folder", str(embeddings), "--index_folder", str(folder / "index"), *_INDEX)
        paths.write_text(json.dumps({NAME: str(folder / "index")}), encoding="utf-8")
    return paths


def _write_embeddings(folder: Path, vectors: Vectors) -> None:
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    np.save(folder / "img_emb" / "img_emb_0.npy", vectors.astype(np.float16))
    captions = [f"picture {n}" for n in range(len(vectors))]
    pq.write_table(pa.table({"caption": captions}), folder / "metadata" / "metadata_0.parquet")
