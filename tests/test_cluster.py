"""A Ray cluster of two workers, started here, makes the same files as one process does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf

from conftest import RATE
from robustness_cases import sound
from sourceprior import UserError, cluster
from test_many import command, contents


@pytest.fixture
def two_workers(monkeypatch):
    """The address of a local cluster of two nodes with one processor each."""
    pytest.importorskip("ray", reason="the extra `scale` is not installed: pip install 'sourceprior[scale]'")
    from ray.cluster_utils import Cluster

    # Workers import what this process does, and multiply matrices as the single process below.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    running = Cluster(initialize_head=True, head_node_args=node)
    running.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    running.wait_for_nodes()
    yield running.address
    running.shutdown()


def test_two_workers_make_the_same_files_as_one_process(two_workers, tmp_path: Path, prior_folders):
    place = tmp_path / "in"
    place.mkdir()
    for index in range(4):
        sf.write(place / f"{index}.wav", sound(0.5 + index / 10), RATE)
    (place / "bad.wav").write_text("no sound")
    environment = os.environ | {"RAY_ADDRESS": two_workers, "OMP_NUM_THREADS": "1"}

    def run(*words: object) -> subprocess.CompletedProcess:
        # From another folder, by names that hold only there.
        return subprocess.run(
            command(prior_folders, "in", *words),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    shared, alone = run("-o", "shared", "--engine", "ray"), run("-o", "alone")
    assert (shared.returncode, alone.returncode) == (1, 1)
    assert "4 done, 0 done before, 1 failed" in shared.stdout
    assert "bad.wav is not a sound file" in shared.stderr
    assert shared.stderr.count("\n") == 1
    assert len(contents(tmp_path / "shared")) == 12
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    assert "0 done, 4 done before, 1 failed" in run("-o", "shared", "--engine", "ray").stdout


def test_no_cluster_is_one_sentence(monkeypatch):
    pytest.importorskip("ray", reason="the extra `scale` is not installed: pip install 'sourceprior[scale]'")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="ray start --head"):
        cluster.connected()


def test_no_ray_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"sourceprior\[scale\]"):
        cluster.connected()
