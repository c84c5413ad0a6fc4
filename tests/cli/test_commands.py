"""What all commands have in common: help, version, quiet, and one line for every error."""

import importlib.metadata
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
import typer
from helpers.every_command import WRITING, fill, words_of
from helpers.folders import contents
from helpers.label_files import write_image
from helpers.paths import ROOT
from helpers.processes import torchrun
from helpers.shared_runs import folder_of_images
from torch.distributed.run import get_args_parser
from typer.testing import CliRunner

import cka_probe
from cka_probe.errors import CkaProbeWarning
from ckaprobe_cli import app

COMMANDS = [
    *([command.callback.__name__] for command in app.registered_commands),
    *(["data", name] for name in ("make", "check", "pseudo-depth")),
]


def run(*words, **settings):
    return CliRunner().invoke(app, list(map(str, words)), **settings)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_and_names_each_option_once(command):
    help_text = run(*command, "-h").stdout
    assert "Example:\n    ckaprobe " + " ".join(command) in help_text
    lines = [
        line.split()[0].rstrip(",")
        for line in help_text.partition("Example:")[2].splitlines()
        if line.startswith("  -")
    ]
    assert len(lines) == len(set(lines))
    assert "--debug" in lines
    assert "-h" in lines


def test_help_has_the_width_of_the_terminal():
    widths = [max(map(len, run("compare", "--help", terminal_width=width).stdout.splitlines())) for width in (70, 150)]
    assert 60 < widths[0] <= 70
    assert 120 < widths[1] <= 150


def test_the_short_help_of_every_command_is_whole():
    assert "..." not in run("--help", terminal_width=80).stdout.partition("Commands:")[2]


def test_version():
    assert run("--version").stdout == f"ckaprobe {importlib.metadata.version('cka-probe')}\n"


def test_help_loads_no_heavy_package():
    program = "import sys; from ckaprobe_cli import main; sys.argv[1:] = ['compare', '--help']\ntry: main()\nfinally:"
    program += " print({'torch', 'numpy', 'rich', 'cka_probe.similarity'} & set(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr.strip() == "set()"


@pytest.mark.slow
@pytest.mark.parametrize("command", WRITING)
def test_an_interrupt_while_a_result_is_renamed_is_one_line(command, inputs, tmp_path, monkeypatch):
    def interrupted(source, target):
        if not Path(target).name.startswith("."):
            raise KeyboardInterrupt
        replace(source, target)

    replace = os.replace
    fill(command, inputs, tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(os, "replace", interrupted)
    done = run(*words_of(command, inputs, tmp_path))
    assert (done.exit_code, done.stderr.splitlines()[-1][:10]) == (130, "ckaprobe: "), done.output
    left = [name for name, data in contents(tmp_path).items() if before.get(name) != data]
    assert all(name.startswith(".") or "/." in name for name in left), left
    assert not list(tmp_path.rglob(f".{os.getpid()}@*"))


def test_an_interrupt_that_python_swallows_ends_the_command():
    program = """
import signal, time, weakref, ckaprobe_cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it runs in the background
def swallow(_):
    raise KeyboardInterrupt
def command():
    item = type("Item", (), {})()
    reference = weakref.ref(item, swallow)
    del item
    time.sleep(20)
ckaprobe_cli.app = command
ckaprobe_cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (130, "ckaprobe: interrupted\n")


def test_an_interrupt_that_python_wraps_while_it_makes_a_class_ends_the_command():
    program = """
import ckaprobe_cli
class Interrupted:
    def __set_name__(self, owner, name):
        raise KeyboardInterrupt
def command():
    type("Item", (), {"item": Interrupted()})
ckaprobe_cli.app = command
ckaprobe_cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (130, "ckaprobe: interrupted\n")


def test_warnings_of_the_library_are_lines_on_stderr(tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2")
    monkeypatch.setattr("cka_probe.models.devices.CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "images").mkdir()
    for number in range(4):
        write_image(tmp_path / "images" / f"{number}.png", number)
    options = ("--data", tmp_path / "images", "--layers", "layer1.0", "--size", 32, "--precision", "bfloat16", "-q")
    with warnings.catch_warnings():
        warnings.simplefilter("always", CkaProbeWarning)
        done = run("fingerprint", "random:resnet18", *options, "-o", tmp_path / "a.fingerprint", "--forward-batch", 2)
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("ckaprobe: this processor has no instructions for bfloat16")
    assert done.stderr.count("\n") == 1


def parameters():
    """Every option of every command: the words of the command, and the names of the option."""
    commands = {(name,): command for name, command in typer.main.get_command(app).commands.items()}
    commands |= {("data", name): command for name, command in commands.pop(("data",)).commands.items()}
    for words, command in commands.items():
        for parameter in command.params:
            names = [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("-")]
            if names:
                yield words, names


def passes_torchrun(words, name):
    """Whether torchrun hands an option behind the name of its program on to the program."""
    try:
        options = get_args_parser().parse_args(["--nproc-per-node", "2", "-m", "ckaprobe_cli", *words, name, "1"])
    except SystemExit:
        return False
    return options.training_script_args == [*words, name, "1"]


def test_torchrun_hands_every_option_on_under_one_of_its_names(capsys):
    refused = [(words, name) for words, names in parameters() for name in names if not passes_torchrun(words, name)]
    assert {name for _, name in refused} == {"--num"}  # which begins --numa-binding
    for words, names in parameters():
        assert any(passes_torchrun(words, name) for name in names), (words, names)
    assert "ambiguous option: --num" in capsys.readouterr().err
    whole = get_args_parser().parse_args(["--", "ckaprobe", "compare", "a", "b", "--num", "64"])
    assert whole.training_script_args[-2:] == ["--num", "64"]


def test_shell_completion():
    words = {"COMP_WORDS": "ckaprobe finger", "COMP_CWORD": "1", "_CKAPROBE_COMPLETE": "complete_bash"}
    assert CliRunner().invoke(app, [], prog_name="ckaprobe", env=words).output.split() == ["fingerprint"]


def raises(error):
    def load(*_args, **_settings):
        raise error

    return load


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["plain", "debug"])
def test_a_bug_is_one_line_and_debug_shows_the_rest(monkeypatch, debug):
    monkeypatch.setattr(cka_probe, "load", raises(ValueError("first\nsecond")), raising=False)
    done = run("layers", "random:resnet18", *debug)
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("ckaprobe: ValueError in cli/test_commands.py, line ")
    assert "first second; this is a bug" in lines[-1]
    assert (lines[0] == "Traceback (most recent call last):") == bool(debug)
    assert (len(lines) == 1) == (not debug)


def test_debug_shows_where_a_users_error_arose():
    done = run("layers", "random:resnet19", "--debug")
    assert done.exit_code == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ckaprobe: no ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["evaluate", "resnet18", "--daat", "x"], "No such option: --daat"),
        (["train", "--recipe", "demo", "--out", "out", "--set", "masked.stepz=1"], "unknown key 'stepz'"),
        (["reproduce", "mesaa", "--out", "out"], "no paper 'mesaa'"),
    ],
)
def test_of_two_processes_one_prints_what_is_wrong(words, line):
    done = torchrun(2, *words)
    assert done.returncode != 0
    assert done.stderr.count(line) == 1


@pytest.mark.slow
def test_two_processes_draw_the_maps_of_one(tmp_path):
    data = folder_of_images(tmp_path / "images", 3)
    words = ["gradcam", "random:resnet18", "--target", "none", "--layer", "layer3", "--data", data, "--num-images", "3"]
    done = torchrun(2, *words, "--draw", "0", "--out", tmp_path / "two", "--device", "cpu", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("gradcam.json") == 1
    one = CliRunner().invoke(app, [*map(str, words), "--draw", "0", "--out", str(tmp_path / "one"), "--device", "cpu"])
    assert one.exit_code == 0, one.output
    tables = [pd.read_csv(tmp_path / name / "gradcam.csv") for name in ("one", "two")]
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)


def test_measures_are_a_table_with_their_sources():
    printed = run("measures").stdout
    for name, measure in cka_probe.similarity.MEASURES.items():
        assert f"\n{name} " in printed
        assert measure.reference in printed
