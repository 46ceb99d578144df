"""``fogmetrics completion SHELL``: print the script by which bash or zsh completes the command.

source <(fogmetrics completion bash)
"""

from __future__ import annotations

import argparse

from fogmetrics.cli.main import COMMANDS

# zsh reads bash's completions by a module of its own.
_BEGINNINGS = {"bash": "", "zsh": "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"}
# The options of the commands that have others than --config, besides --help.
OPTIONS = {
    "check": "--config --config-only",
    "completion": "",
    "init": "--system --docker --user --exporter-user --run-dir --log-dir --state-dir",
}
# An argument that is completed by none of these is a path, which the shell completes.
_SCRIPT = """\
_fogmetrics() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}"
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands} --help --version" -- "$word"))
    elif [[ "$word" == -* ]]; then
        case "${{COMP_WORDS[1]}}" in
{options}
            *) COMPREPLY=($(compgen -W "--help --config" -- "$word")) ;;
        esac
    elif [ "${{COMP_WORDS[1]}}" = completion ]; then
        COMPREPLY=($(compgen -W "bash zsh" -- "$word"))
    elif [ "${{COMP_WORDS[1]}}" = once ] && [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -W "{sources}" -- "$word"))
    fi
}}
complete -o default -F _fogmetrics fogmetrics
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fogmetrics completion", description="Print a completion script.")
    parser.add_argument("shell", choices=tuple(_BEGINNINGS))
    shell = parser.parse_args(arguments).shell
    from collector.registry import BUILT_IN

    options = "\n".join(
        f'            {name}) COMPREPLY=($(compgen -W "--help {some}" -- "$word")) ;;' for name, some in OPTIONS.items()
    )
    script = _SCRIPT.format(commands=" ".join(COMMANDS), sources=" ".join(BUILT_IN), options=options)
    print(_BEGINNINGS[shell] + script, end="")
    return 0
