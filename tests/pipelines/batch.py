#!/usr/bin/env python3
"""Drives opensora as a Python script in a pipeline does, and checks every line of events and journal against the schema.

usage: tests/pipelines/batch.py PROGRAM

Needs the package jsonschema; without it, it exits with 77, which CTest shows as skipped.
"""
import csv
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

try:
    import jsonschema
except ImportError:
    print("batch.py: skipped, there is no jsonschema (python3-jsonschema)")
    sys.exit(77)

HERE = pathlib.Path(__file__).parent
SCHEMA = json.loads((HERE / "events.schema.json").read_text())
STAGES = {"text", "denoise", "decode", "write", "total"}


def validated(text):
    """The lines of JSON of a text, each checked."""
    validator = jsonschema.Draft7Validator(SCHEMA)
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        # The first error within the event's own definition says more than that none of them fits.
        own = {"$ref": f"#/definitions/{line['event']}", "definitions": SCHEMA["definitions"]}
        jsonschema.Draft7Validator(own).validate(line)
        validator.validate(line)
    return lines


class Pipeline:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.environment.pop("OPENSORA_MODEL_DIR", None)

    def run(self, *arguments, expect=0, **options):
        done = subprocess.run([self.program, *map(str, arguments)], cwd=self.folder, env=self.environment,
                              capture_output=True, text=True, timeout=1800, check=False, **options)
        assert done.returncode == expect, f"{done.returncode} instead of {expect} from {arguments}: {done.stderr[-600:]}"
        return done

    def generate(self, *arguments, expect=0):
        """A batch with events; its lines on stdout, its events, its journal."""
        done = self.run("generate", *arguments, "--device", "cpu", "--json", "--events", "events.jsonl", expect=expect)
        events = validated((self.folder / "events.jsonl").read_text())
        return [json.loads(line) for line in done.stdout.splitlines()], events

    def journal(self, folder, name="run.jsonl"):
        return validated((self.folder / folder / name).read_text())


def of(events, name):
    return [event for event in events if event["event"] == name]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_machine(pipeline):
    report = json.loads(pipeline.run("doctor", "--json").stdout)
    assert report, "doctor says nothing"


def check_batch(pipeline):
    """Results, events and journal of a run agree with each other and with the files."""
    with open(pipeline.folder / "prompts.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "name", "seed", "num_frames", "steps"])
        writer.writerow(['a "red" circle,\nmoving right', "circle", "1;2", 5, 3])
        writer.writerow(["a blue square \U0001f7e6", "square", 3, 1, 2])
    results, events = pipeline.generate("--prompts-file", "prompts.csv", "--output-dir", "videos")

    assert [result["state"] for result in results] == ["done"] * 3, results
    assert {result["output"] for result in results} == {
        "videos/circle-0.mp4", "videos/circle-1.mp4", "videos/square-0.png"}, results
    done = {event["output"]: event for event in of(events, "video_done")}
    for result in results:
        event, path = done[result["output"]], pipeline.folder / result["output"]
        assert event["sha256"] == sha256(path) and event["bytes"] == path.stat().st_size
        assert event["seed"] == result["seed"] and event["frames"] == result["frames"]
        assert event["place"] in ("prompts.csv:2", "prompts.csv:4"), event
        assert STAGES <= set(event["seconds"]), event["seconds"]
    steps = [event for event in of(events, "step") if event["output"] == "videos/circle-0.mp4"]
    assert [step["done"] for step in steps] == [1, 2, 3] and steps[-1]["remaining_seconds"] == 0, steps
    assert {event["model"] for event in of(events, "model_loaded")} == {"clip", "t5", "transformer", "autoencoder"}
    assert events[0]["event"] == "run_started" and events[0]["videos"] == 3
    assert events[-1]["event"] == "run_finished" and events[-1]["done"] == 3 and events[-1]["exit_code"] == 0

    journal = pipeline.journal("videos")
    recorded = [event for event in events if event in journal]
    assert recorded == journal, "the journal is not the part of the events that is marked so"

    results, events = pipeline.generate("--prompts-file", "prompts.csv", "--output-dir", "videos", "--resume")
    assert [result["state"] for result in results] == ["skipped"] * 3
    assert len(of(events, "video_skipped")) == 3 and not of(events, "model_loaded")


def check_failures(pipeline):
    """A failure has the code that the video would have alone, and --fail-fast leaves the rest for later."""
    (pipeline.folder / "broken.png").write_text("not a picture")
    rows = [{"prompt": "a red circle", "image": "broken.png", "seed": 1}, {"prompt": "a blue square", "seed": 2}]
    (pipeline.folder / "rows.json").write_text(json.dumps(rows))
    flags = ["--prompts-file", "rows.json", "--output-dir", "failing", "--num-frames", "5", "--steps", "1"]
    results, events = pipeline.generate(*flags, "--fail-fast", expect=3)
    assert [result["state"] for result in results] == ["failed"] and results[0]["code"] == 9, results
    assert events[-1]["failed"] == 1 and events[-1]["not_run"] == 1 and events[-1]["exit_code"] == 3
    results, events = pipeline.generate(*flags, "--resume", expect=3)
    assert [event["code"] for event in of(events, "video_failed")] == [9]
    assert len(of(events, "video_done")) == 1

    flags = ["-p", "a red circle", "-s", "1", "--num-frames", "5", "--steps", "10000", "--output-dir", "slow"]
    _, events = pipeline.generate(*flags, "--timeout", "1", expect=3)
    assert of(events, "video_failed")[0]["code"] == 124


def check_kill(pipeline):
    """SIGKILL in the middle of sampling: the journal has whole lines, and resuming ends the run."""
    flags = ["generate", "-p", "a red circle", "-s", "1,2", "--num-frames", "5", "--steps", "40", "--output-dir", "killed",
             "--device", "cpu", "--events", "fd:1"]
    with subprocess.Popen([pipeline.program, *flags], cwd=pipeline.folder, env=pipeline.environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        for line in process.stdout:
            if line.startswith("{") and json.loads(line)["event"] == "video_sampled":
                process.send_signal(signal.SIGKILL)
                break
    results, _ = pipeline.generate("-p", "a red circle", "-s", "1,2", "--num-frames", "5", "--steps", "40",
                                   "--output-dir", "killed", "--resume")
    assert len(results) == 2
    journal = pipeline.journal("killed")
    sampled = [event["key"] for event in of(journal, "video_sampled")]
    assert len(sampled) == len(set(sampled)) == 2, "a video was sampled again after it had been saved"


def main():
    program = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(program, pathlib.Path(folder))
        for check in (check_machine, check_batch, check_failures, check_kill):
            check(pipeline)
    print("batch.py: all as documented")


if __name__ == "__main__":
    main()
