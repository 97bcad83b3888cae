"""The Python of README.md runs as it stands there, and the commands it shows parse."""

import re
import shlex
from pathlib import Path

import pytest

from verifier.cli.parser import build

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROPERTY = "".join(f"(declare-const X_{i} Real)(assert (>= X_{i} 0))(assert (<= X_{i} 1))\n" for i in range(64)) + (
    "".join(f"(declare-const Y_{i} Real)\n" for i in range(10)) + "(assert (>= Y_0 20))(assert (>= Y_1 20))"
)


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "property.vnnlib").write_text(PROPERTY)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("unsat ")
    assert len(lines) == 1 + 3 + 2


@pytest.mark.parametrize("file", ["README.md", "docs/dro.md", "docs/tightness.md", "docs/transport.md", "docs/optimal-risk.md"])
def test_commands(file: str) -> None:
    commands = re.findall(r"^    tightcert (.*)$", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert commands
    for command in commands:
        assert build().parse_args(shlex.split(command)).command == command.split()[0]
