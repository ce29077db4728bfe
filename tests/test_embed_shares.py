"""Shares of a run: of machines, of a Slurm array, of an indexed Job, and of runs that begin at once."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import bulk_runs
import kubernetes_validate
import pyarrow.parquet as pq
import pytest
import yaml
from bulk_runs import Embed, embed, wait_for
from documents import ROOT
from servers import CLIPSERVE

import pictures
from clip_client.errors import InvalidInput
from clip_embed.cli import main, parser
from clip_embed.inputs.folder import Folder
from clip_embed.inputs.lists import load, store
from clip_embed.manifest import read
from clip_embed.places import LocalPlace
from clip_embed.run import Job, prepared
from clip_embed.shares import Share, scheduled_share, share_of


def slurm(task: int, least: int, most: int, **more: int) -> dict[str, str]:
    """Variables of a task."""
    names = {"TASK_ID": task, "TASK_MIN": least, "TASK_MAX": most} | {name.upper(): value for name, value in more.items()}
    return {f"SLURM_ARRAY_{name}": str(value) for name, value in names.items()}


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, None),
        (slurm(0, 0, 9, task_count=10), Share(0, 10)),
        (slurm(9, 0, 9), Share(9, 10)),
        (slurm(3, 1, 9, task_step=2, task_count=5), Share(1, 5)),
        (slurm(5, 5, 5, task_count=1), Share(0, 1)),
        ({"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "3"}, Share(2, 3)),
        ({"JOB_COMPLETIONS": "3"}, None),
    ],
)
def test_a_scheduler_tells_the_share(environment: Mapping[str, str], share: Share | None) -> None:
    assert scheduled_share(environment) == share


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (slurm(7, 1, 7, task_count=3), "the array of this task has gaps .3 tasks from 1 to 7."),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_MIN is not set: expected a number, or pass --part i/n"),
        (slurm(11, 0, 9), "SLURM_ARRAY_TASK_ID is 11, of 10 in all: expected one of them"),
        (slurm(0, 1, 9), "SLURM_ARRAY_TASK_ID is 0, of 9 in all"),
        ({"SLURM_ARRAY_TASK_ID": "x"}, "SLURM_ARRAY_TASK_ID is 'x': expected a number"),
        ({"SLURM_ARRAY_TASK_ID": ""}, "SLURM_ARRAY_TASK_ID is '': expected a number"),
        ({"JOB_COMPLETION_INDEX": "0"}, "JOB_COMPLETIONS isn't set: set it to the Job's completions"),
        ({"JOB_COMPLETION_INDEX": "3", "JOB_COMPLETIONS": "3"}, "JOB_COMPLETION_INDEX is 3, of 3 in all"),
        ({"JOB_COMPLETION_INDEX": "-1", "JOB_COMPLETIONS": "3"}, "JOB_COMPLETION_INDEX is '-1': expected a number"),
        ({"JOB_COMPLETION_INDEX": "٣", "JOB_COMPLETIONS": "4"}, "expected a number"),
    ],
)
def test_a_scheduler_that_tells_nonsense_is_refused(environment: Mapping[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        scheduled_share(environment)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "1/3/5", "-1/3", "1/٣", ""])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="expected i/n with i from 1 to n"):
        share_of(text)


def test_kubernetes_takes_the_job_whose_parts_are_of_as_many_pods() -> None:
    job = yaml.safe_load((ROOT / "deploy" / "embed-job.yaml").read_text())
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(job, version, strict=True)
    [container] = job["spec"]["template"]["spec"]["containers"]
    told = {variable["name"]: variable["value"] for variable in container["env"]}
    assert (job["spec"]["completionMode"], told["JOB_COMPLETIONS"]) == ("Indexed", str(job["spec"]["completions"]))
    arguments = parser().parse_args(container["args"])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert str(arguments.repository) in mounts
    assert str(arguments.threads) == container["resources"]["requests"]["cpu"]
    container["imag"] = container.pop("image")
    with pytest.raises(Exception, match="imag"):
        kubernetes_validate.validate(job, version, strict=True)


def test_the_script_for_slurm_does_the_share_of_its_task(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / ".venv").symlink_to(sys.prefix)
    (tmp_path / "clone" / "model_repository").symlink_to(repository)
    places = {"INPUT": bulk_runs.shards(tmp_path / "in", 4, 2), "OUTPUT": str(tmp_path / "out")}
    task = {**slurm(1, 0, 1, task_count=2), "SLURM_CPUS_PER_TASK": "1", "CLIPSERVE": str(tmp_path / "clone"), **places}
    script = ["bash", ROOT / "deploy" / "embed.sbatch"]
    run = subprocess.run(script, env={**os.environ, **task}, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    assert [path.name for path in bulk_runs.records(tmp_path / "out")] == ["1.json", "3.json"]
    assert "2 of 4 parts are done" in run.stdout
    assert "other shares have the rest" in run.stdout


def test_shares_are_all_of_the_parts_once() -> None:
    for parts in (0, 1, 5, 17):
        for of in (1, 3, 20):
            assert sorted(n for number in range(of) for n in Share(number, of).parts(parts)) == list(range(parts))


def test_tasks_that_begin_at_once_make_one_run(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for n, content in enumerate(pictures.jpegs(20)):
        (folder / f"{n:02d}.jpg").write_bytes(content if n != 7 else b"no picture")
    order = (folder, output, "--repository", repository, "--part-items", 3)
    tasks = [Embed(*order, **slurm(n, 0, 1)) for n in range(2)]
    assert [task.ended() for task in tasks] == [0, 0], [task.err for task in tasks]
    metadata = [content for name, content in bulk_runs.files(output).items() if name.startswith("metadata/")]
    names = [path for content in metadata for path in bulk_runs.paths(content)]
    assert names == [f"{folder}/{n:02d}.jpg" for n in range(20) if n != 7]
    errors = pq.read_table(output / "errors.parquet").to_pylist()
    assert [Path(error["item"]).name for error in errors] == ["07.jpg"]
    assert main([*map(str, order), "--json"]) == 1
    books = json.loads(capsys.readouterr().out)
    assert (books["items"], books["read"], books["taken"], books["left_out"]) == (0, 20, 19, 1)


def test_plans_of_a_folder_that_changes_do_not_mix(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "b.jpg").write_bytes(b"x")
    place = LocalPlace(tmp_path / "out")
    late = Folder(str(folder)).plan(10)
    first = prepared(place, Job(Folder(str(folder))), "f")
    (folder / "a.jpg").write_bytes(b"x")
    # What another process does that has begun before the manifest was there, and looked at the folder later.
    assert store(place, Folder(str(folder)).plan(10)) != first.parts
    assert store(place, late) == first.parts
    there = read(place)
    assert there is not None
    assert load(place, there.parts[0]).column("name").to_pylist() == ["b.jpg"]


@pytest.mark.slow
def test_a_second_run_on_one_output_shares_the_work(repository: Path, tmp_path: Path) -> None:
    pattern, output = bulk_runs.shards(tmp_path / "in", 8, 4), tmp_path / "out"
    order = (f"pipe:sleep 0.4; cat {pattern}", output, "--repository", repository, "--json")
    runs = [Embed(*order) for _ in range(2)]
    assert [run.ended() for run in runs] == [0, 0], [run.err for run in runs]
    assert sum(run.books["items"] for run in runs) == 32
    assert min(run.books["items"] for run in runs) >= 8
    bulk_runs.assert_whole(bulk_runs.files(output), repository, 32)


def test_a_disk_that_is_full_stops_the_run_which_goes_on_later(repository: Path, tmp_path: Path) -> None:
    pattern, output = bulk_runs.shards(tmp_path / "in", 4, 60), tmp_path / "out"
    command = [CLIPSERVE, "embed", f"pipe:cat {pattern}", output, "--repository", repository]
    bound = 30_000  # bytes of a file, which the first part's rows don't fit in
    full = subprocess.run(
        command,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bound, bound)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert full.returncode == 1
    assert full.stderr.startswith(f"error: {output} can't be written (")
    assert "make room there, then run again; what is done stays" in full.stderr
    assert len(full.stderr.splitlines()) == 1
    assert main([*map(str, command[2:])]) == 0
    bulk_runs.assert_whole(bulk_runs.files(output), repository, 240)


@pytest.mark.slow
def test_a_file_system_that_is_full_in_the_midst_keeps_what_is_done(repository: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    pattern = bulk_runs.shards(tmp_path / "in", 16, 60)
    script = 'mount -t tmpfs -o size=400k none "$1" && shift && "$@"; status=$?; cp -r "$DISK" "$KEPT"; exit $status'
    order = [CLIPSERVE, "embed", f"pipe:cat {pattern}", disk / "out", "--repository", repository]
    own_mounts = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", disk, *order]
    environment = {**os.environ, "DISK": f"{disk}/out", "KEPT": f"{tmp_path}/kept"}
    full = subprocess.run(own_mounts, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert full.returncode == 1
    assert full.stderr.startswith(f"error: {disk}/out can't be written (")
    assert "o space left on device" in full.stderr
    assert len(full.stderr.splitlines()) == 1
    before = bulk_runs.files(tmp_path / "kept")
    assert 1 <= len(bulk_runs.records(tmp_path / "kept")) < 16
    assert embed(order[2], tmp_path / "kept", "--repository", repository).process.returncode == 0
    bulk_runs.assert_whole(bulk_runs.files(tmp_path / "kept"), repository, 960)
    assert before.items() <= bulk_runs.files(tmp_path / "kept").items()


@pytest.mark.slow
def test_a_second_run_takes_up_what_a_killed_one_had_begun(repository: Path, tmp_path: Path) -> None:
    pattern, output = bulk_runs.shards(tmp_path / "in", 3, 4), tmp_path / "out"
    order = (f"pipe:sleep 0.5; cat {pattern}", output, "--repository", repository)
    first = Embed(*order)
    wait_for(lambda: (output / "_clipserve" / "manifest.json").exists())
    second = Embed(*order)
    first.process.kill()
    assert second.ended() == 0, second.err
    first.ended()
    bulk_runs.assert_whole(bulk_runs.files(output), repository, 12)
    assert not list((output / "_clipserve" / "tmp").iterdir())
