"""How long the command line takes to answer, beside Python itself."""

import functools
import subprocess
import sys

from ue_audit.benches import timing
from ue_audit.benches.rows import Goal, Part, compared
from ue_audit.benches.scene import Scene
from ue_audit.benches.timing import Contender

TITLE = "Start-up"
GOAL = 0.5  # seconds until --help has answered
PYTHON = "python -c pass"
COMMANDS = {
    PYTHON: ["-c", "pass"],
    "ue-audit --help": ["-m", "ue_audit", "--help"],
    "ue-audit purify --help": ["-m", "ue_audit", "purify", "--help"],
    "ue-audit, a wrong option": ["-m", "ue_audit", "protect", "--metod", "emn"],
    "python -c 'import torch'": ["-c", "import torch"],
}


def run(scene: Scene) -> Part:
    contenders = {name: Contender(functools.partial(_answer, words)) for name, words in COMMANDS.items()}
    measured = timing.interleaved(contenders, scene.amounts.starts, scene.device, scene.progress)
    rows = compared(measured, PYTHON)
    answer = next(row for row in rows if row.what == "ue-audit --help")
    return Part(rows, [Goal("seconds until --help has answered", GOAL, answer.seconds, at_least=False)])


def _answer(words: list[str]) -> None:
    subprocess.run([sys.executable, *words], capture_output=True, stdin=subprocess.DEVNULL, check=False)
