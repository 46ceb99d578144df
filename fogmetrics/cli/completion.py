"""``fogmetrics completion SHELL``: print the script by which bash or zsh completes the command.

source <(fogmetrics completion bash)
"""

from __future__ import annotations

import argparse

from fogmetrics.cli.main import COMMANDS

# zsh reads bash's completions by a module of its own.
_BEGINNINGS = {"bash": "", "zsh": "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"}
_SCRIPT = """\
_fogmetrics() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands} --help --version" -- "$word"))
    elif [ "${{COMP_WORDS[1]}}" = completion ]; then
        COMPREPLY=($(compgen -W "bash zsh" -- "$word"))
    elif [ "${{COMP_WORDS[1]}}" = once ] && [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -W "{sources}" -- "$word"))
    else
        COMPREPLY=($(compgen -W "--help --config" -- "$word") $(compgen -f -- "$word"))
    fi
}}
complete -F _fogmetrics fogmetrics
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fogmetrics completion", description="Print a completion script.")
    parser.add_argument("shell", choices=tuple(_BEGINNINGS))
    shell = parser.parse_args(arguments).shell
    from collector.registry import BUILT_IN

    print(_BEGINNINGS[shell] + _SCRIPT.format(commands=" ".join(COMMANDS), sources=" ".join(BUILT_IN)), end="")
    return 0
