"""The docs tell the truth: the reference is the configs', the README's commands and Python run."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import textwrap
import urllib.request

import pytest
from conftest import PROJECT, newest_run

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_reference_is_up_to_date():
    made = runpy.run_path(str(PROJECT / "docs" / "make_reference.py"))["reference"]()
    assert (PROJECT / "docs" / "recipe.md").read_text(encoding="utf-8") == made, "run python docs/make_reference.py"


def test_every_command_of_the_readme_runs(tiny, home, polyana):
    block = README[README.index("## While it trains") :]
    commands = re.findall(r"^    polyana (.+?)(?:\s+#.*)?$", block, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        for theirs, ours in (("recipes/presidents.yaml", str(tiny)), ("RECIPE", str(tiny)), ("presidents-", "tiny-")):
            command = command.replace(theirs, ours)  # noqa: PLW2901
        arguments = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', command)]
        if arguments[0] == "ui":
            opens_a_server([*arguments, "--no-browser"])
        elif arguments[0] == "serve":
            opens_a_server(arguments, "/models")
        else:
            polyana(*[argument for argument in arguments if argument != "--watch"])  # which would never end


def opens_a_server(arguments, path=""):
    """It prints an address, answers there, and ends well at Ctrl-C."""
    command = [sys.executable, "-m", "polyana", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            with urllib.request.urlopen(server.stdout.readline().strip() + path, timeout=60) as answer:
                assert answer.status == 200
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def test_the_readmes_python_runs(tiny, home, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(code.replace("recipes/presidents.yaml", str(tiny)), {})
    assert "eval/loss" in capsys.readouterr().out
    (outside,) = re.findall(r"python -c \"\n(.*?)\"", README, re.DOTALL)
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(outside).replace("RUN", newest_run(home).name)],
        env=os.environ | {"HF_HUB_CACHE": str(home / "hub"), "HF_HUB_OFFLINE": "1"}, capture_output=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr.decode()


def test_the_readmes_recipe_is_a_recipe(tmp_path):
    from polyana.recipe import load_recipe

    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "recipe.yaml").write_text(text)
    assert list(load_recipe(tmp_path / "recipe.yaml").stages) == ["corpus", "tokenizer", "pretrain"]


FINETUNING = (PROJECT / "docs" / "finetuning.md").read_text(encoding="utf-8")


def test_the_recipe_for_fine_tuning_is_a_recipe_of_ten_lines(tmp_path):
    from polyana.recipe import load_recipe

    (text,) = re.findall(r"```yaml\n(.*?)```", FINETUNING, re.DOTALL)
    (tmp_path / "recipe.yaml").write_text(text)
    assert list(load_recipe(tmp_path / "recipe.yaml").stages) == ["chat"]
    assert len(text.splitlines()) == 10


def test_the_rows_for_fine_tuning_are_of_the_forms_they_stand_under():
    from polyana.examples import ExampleSource, conversation_of
    from polyana.examples.config import FORMS

    rows = [json.loads(row) for row in re.findall(r"```jsonl\n(.*?)```", FINETUNING, re.DOTALL)]
    assert len(rows) == len(FORMS)
    for row, form in zip(rows, FORMS, strict=True):
        by_name, found = (conversation_of(row, ExampleSource(path="x", form=each)) for each in (form, "auto"))
        assert by_name == found


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", README))
def test_every_link_of_the_readme_leads_somewhere(link):
    assert (PROJECT / link).exists()


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", FINETUNING))
def test_every_link_of_finetuning_leads_somewhere(link):
    assert (PROJECT / "docs" / link).exists()


def test_what_the_docs_say_of_sinks_and_scripts_runs(tmp_path, home, polyana):
    """The recipe with sinks is one, and the script makes a run that `runs`, `watch` and `compare` know."""
    from polyana.recipe import load_recipe
    from polyana.tracking import find_runs

    told = (PROJECT / "docs" / "sinks.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```yaml\n(.*?)```", told, re.DOTALL)
    (tmp_path / "recipe.yaml").write_text(recipe)
    (tmp_path / "texts").mkdir()
    pytest.importorskip("tensorboard")
    config = load_recipe(tmp_path / "recipe.yaml").stages["pretrain"]
    assert [sink.kind for sink in config.track.sinks] == ["csv", "tensorboard"]
    (script,) = re.findall(r"```python\n(.*?)```", told, re.DOTALL)
    exec(script, {})
    (run,) = find_runs(home / "runs")
    assert run.name in polyana("runs").stdout
    for arguments in re.findall(r"^    polyana ((?:watch|compare) .+?)(?: +[#>].*)?$", told, re.MULTILINE):
        metric = arguments.replace("eval/loss", "train/loss")
        assert run.name in polyana(*metric.replace("RUN", run.name).split()).stdout
