"""Whole trainings, one process a rank, that find each other through a store which outlives them, as under torchrun."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import PATIENCE_S, Daemon, clean_environment
from torch.distributed import TCPStore

HERE = Path(__file__).parent
Records = list[dict[str, Any]]


class Training:
    """The ranks of one run of a script, started."""

    def __init__(
        self, folder: Path, settings: dict[str, Any], ranks: int, addresses: Sequence[str], script: Path
    ) -> None:
        self.folder = folder
        self.store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False) if ranks > 1 else None
        self.processes: list[subprocess.Popen[str]] = []
        settings = {"work_dir": str(folder), **settings}
        (folder / "settings.json").write_text(json.dumps(settings))
        for rank in range(ranks):
            command = [sys.executable, str(script), str(folder / "settings.json"), str(self.record(rank))]
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(folder / f"errors{rank}").open("w"),
                text=True,
                env=clean_environment(
                    XDG_RUNTIME_DIR=str(folder),
                    OMP_NUM_THREADS="1",
                    HOOKBUS_ADDRESS=addresses[rank] if addresses else f"unix://{folder}/nobody",
                    **self.place(rank, ranks),
                ),
            )
            self.processes.append(process)

    def place(self, rank: int, ranks: int) -> dict[str, str]:
        if self.store is None:
            return {}
        return {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_RUN_ID": self.folder.name,
        }

    def record(self, rank: int) -> Path:
        return self.folder / f"record{rank}.json"

    def said(self, rank: int) -> str:
        return (self.folder / f"errors{rank}").read_text()

    def at(self, rank: int, iteration: int) -> None:
        """Waits until a rank is about to begin an iteration that it was told to ask at."""
        output = self.processes[rank].stdout
        assert output is not None
        for line in output:
            if line == f"at {iteration}\n":
                return
        raise AssertionError(f"rank {rank} never came to iteration {iteration}: {self.said(rank)}")

    def go(self, rank: int) -> None:
        told = self.processes[rank].stdin
        assert told is not None
        told.write("\n")
        told.flush()

    def records(self) -> Records:
        """What each rank wrote, once all have ended."""
        for rank, process in enumerate(self.processes):
            process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, self.said(rank)
        return [json.loads(self.record(rank).read_text()) for rank in range(len(self.processes))]

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@contextmanager
def begun(
    folder: Path, settings: dict[str, Any], ranks: int = 1, daemons: Sequence[Daemon] = (), script: str = "train.py"
) -> Iterator[Training]:
    """A training in a new folder, ended with the block. Several ranks have one daemon each, or share the one given."""
    place = Path(tempfile.mkdtemp(prefix="training", dir=folder))
    addresses = [daemons[rank % len(daemons)].address for rank in range(ranks)] if daemons else []
    training = Training(place, settings, ranks, addresses, HERE / script)
    try:
        yield training
    finally:
        training.end()


def trained(folder: Path, settings: dict[str, Any], ranks: int = 1, daemons: Sequence[Daemon] = ()) -> Records:
    """What the ranks of a whole training wrote."""
    with begun(folder, settings, ranks, daemons) as training:
        return training.records()
