"""What the tests of the command line share."""

import json

import pytest

QUESTION = ["radius", "--network", "digits-16x2", "--data", "digits:test", "--norm", "inf"]


def answers(capsys: pytest.CaptureFixture) -> list[dict]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in capsys.readouterr().out.splitlines()]
