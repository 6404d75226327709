"""What the README tells people to type exists, and what it links to is there."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from sourceprior.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("line", re.findall(r"^ +sourceprior (\S.*?)(?: +#.*)?$", README, re.M))
def test_commands_and_options_exist(line):
    command, *words = line.split()
    known = get_command(app).commands
    assert command in known
    options = {name for parameter in known[command].params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    wanted = set(re.findall(r"^ +make (\w+)", README, re.M))
    assert wanted
    assert wanted <= targets
