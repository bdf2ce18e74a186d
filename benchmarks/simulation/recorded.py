"""A world made of a user's own latencies: CSV with a header, or JSON lines.

Columns: ``deployment``, ``seconds``, and where known ``input_tokens``, ``output_tokens``. With
tokens, what is resampled is seconds per unit of work (WORKLOADS.md §B), and call sizes are resampled
beside it, so that a deployment that happened to get the long calls is not taken for a slow one.
Load changes nothing in this world: what it did is already in the records.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from random import Random

from benchmarks.simulation.servers import Standard
from benchmarks.simulation.sizes import Size
from benchmarks.simulation.workload import Call, Callers
from benchmarks.simulation.worlds import ServerSpec, World, bursty

GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Record:
    """One recorded call."""

    deployment: str
    seconds: float
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def sized(self) -> bool:
        """Whether its tokens are known."""
        return self.input_tokens is not None and self.output_tokens is not None


def read(path: Path) -> Sequence[Record]:
    """The records of a file.

    Raises:
        ValueError: a line lacks a column, or is not a number where one is expected; says which line.
    """
    text = path.read_text(encoding="utf-8")
    jsonl = text.lstrip().startswith("{")
    rows: Iterable[Mapping[str, object]]
    rows = map(json.loads, filter(str.strip, text.splitlines())) if jsonl else csv.DictReader(text.splitlines())
    records = [_record(row, path, line) for line, row in enumerate(rows, 1)]
    if not records:
        raise ValueError(f"{path}: no records; expected deployment,seconds[,input_tokens,output_tokens]")
    return records


def _record(row: Mapping[str, object], path: Path, line: int) -> Record:
    try:
        seconds = float(str(row["seconds"]))
        return Record(str(row["deployment"]), seconds, _count(row, "input_tokens"), _count(row, "output_tokens"))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}, record {line}: {error}; expected deployment,seconds[,input_tokens,output_tokens]"
        ) from error


def _count(row: Mapping[str, object], column: str) -> int | None:
    value = row.get(column)
    return None if value in (None, "") else int(float(str(value)))


@dataclass(frozen=True, slots=True)
class Resampled:
    """The work of a call, drawn from what its deployment was seen to do.

    Attributes:
        samples: seconds, or seconds per unit of standard work when ``sized``.
        offset: decorrelates the deployments: the call's own draw is shifted by it.
    """

    samples: Sequence[float]
    sized: bool
    offset: float
    standard: Standard

    def work(self, call: Call, cached: int) -> tuple[float, float]:
        """Until the first chunk (in proportion), and until the end."""
        sample = self.samples[int((call.draw + self.offset) % 1.0 * len(self.samples))]
        first, total = self.standard.work(call, cached)
        return (first * sample, total * sample) if self.sized else (sample * first / total, sample)


@dataclass(frozen=True, slots=True)
class RecordedSizes:
    """Sizes of recorded calls; a fixed one where none was recorded."""

    sizes: Sequence[Size]

    def draw(self, rng: Random, at: float) -> Size:  # noqa: ARG002 - stationary
        """Any of them."""
        return self.sizes[int(rng.random() * len(self.sizes))]


def world(records: Sequence[Record], scale: float = 1.0, rate: float = 10.0) -> World:
    """Deployments that answer as they were seen to."""
    sized = all(record.sized for record in records)
    names = sorted({record.deployment for record in records})
    servers = [_server(name, index, records, sized=sized) for index, name in enumerate(names)]
    sizes = [Size(r.input_tokens or 1, r.output_tokens or 1) for r in records] if sized else [Size(500, 150)]
    title = f"recorded: {len(records)} latencies of {len(names)} deployments, resampled"
    return World(
        "REC", title, 300.0 * scale, servers, bursty(rate), sizes=RecordedSizes(sizes), callers=Callers(noise=0.0)
    )


def _server(name: str, index: int, records: Sequence[Record], *, sized: bool) -> ServerSpec:
    own = [record for record in records if record.deployment == name]
    standard = Standard()
    samples = sorted(record.seconds / (_standard_seconds(record, standard) if sized else 1.0) for record in own)
    service = Resampled(samples, sized, index * GOLDEN % 1.0, standard)
    return ServerSpec(name, capacity=inf, service=service)


def _standard_seconds(record: Record, standard: Standard) -> float:
    return standard.base + standard.prompt * (record.input_tokens or 0) + standard.output * (record.output_tokens or 0)
