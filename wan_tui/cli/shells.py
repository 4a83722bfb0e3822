"""The completion scripts: the tables of the commands, and how each shell walks through them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from wan_tui.cli.completion import Level

_WALK = """\
    for word in {words}; do
        if [[ -n $need ]]; then need=; continue; fi
        case $word in
        -*)
            many=
            case "$level $word" in
{values}
            esac ;;
        *)
            [[ -n $many ]] && continue
            case "$level $word" in
            {commands}) level="${{level:+$level }}$word" count=0 ;;
            *) count=$((count + 1)) ;;
            esac ;;
        esac
    done
    if [[ -z $need && $cur == --*=* ]]; then
        case "$level ${{cur%%=*}}" in
{values}
        esac
        [[ -n $need ]] || return 0
        {equals}
    fi
    want=$need$many
    if [[ -z $want ]]; then
        case "$level $count" in
{places}
        esac
    fi
"""

_BASH = """\
# Completion of wan-tui in bash, made by `wan-tui completion bash`.
# In ~/.bashrc:  source <(wan-tui completion bash)
_wan_tui_add() {
    local word
    for word in "$@"; do
        [[ $word == "$cur"* ]] && COMPREPLY+=("${word#"$lead"}")
    done
}

_wan_tui() {
    local level= need= many= want= count=0 word cur= lead= breaks=
    local -a words
    COMPREPLY=()
    # Model names hold : and @, at which bash parts words: they are put together again from the line.
    read -d '' -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    if [[ ${COMP_LINE:COMP_POINT-1:1} != [[:space:]] ]]; then
        cur=${words[${#words[@]} - 1]}
        unset "words[${#words[@]} - 1]"
    fi
    for word in : @ =; do
        [[ $COMP_WORDBREAKS == *"$word"* ]] && breaks+=$word
    done
    [[ -n $breaks ]] && lead=${cur%"${cur##*[$breaks]}"}
WALK
    if [[ -z $need && $cur == -* ]]; then
        case $level in
OPTIONS
        esac
        return 0
    fi
    if [[ -z $want ]]; then
        case $level in
COMMANDS
        esac
    fi
    case $want in
    =*) _wan_tui_add ${want#=} ;;
    model | place | planned) _wan_tui_add MODELS ;;
    esac
    case $want in
    place) [[ -z $lead ]] && compopt -o plusdirs ;;
    folder) compopt -o dirnames ;;
    file) compopt -o default ;;
    toml | planned)
        compopt -o filenames -o plusdirs
        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -X '!*.toml' -- "$cur") ;;
    esac
    return 0
}

complete -F _wan_tui wan-tui
"""

_ZSH = """\
#compdef wan-tui
# Completion of wan-tui in zsh, made by `wan-tui completion zsh`.
# In ~/.zshrc, behind compinit:  source <(wan-tui completion zsh)
_wan_tui() {
    local level= need= many= want= count=0 none=1 word cur=$words[CURRENT]
    local -a rows
WALK
    if [[ -z $need && $cur == -* ]]; then
        case $level in
OPTIONS
        esac
        _describe -o option rows
        return
    fi
    if [[ -z $want ]]; then
        case $level in
COMMANDS
        esac
        (( $#rows )) && _describe command rows && none=0
    fi
    case $want in
    =*) compadd -- ${=want#=} && none=0 ;;
    model | place | planned) compadd -- MODELS && none=0 ;;
    esac
    case $want in
    place | folder) _files -/ && none=0 ;;
    file) _files && none=0 ;;
    toml | planned)
        _path_files -g '*.toml' && none=0
        _path_files -/ && none=0 ;;
    esac
    return none
}

if [[ $funcstack[1] == _wan-tui ]]; then _wan_tui "$@"; else compdef _wan_tui wan-tui; fi
"""

_FISH = """\
# Completion of wan-tui in fish, made by `wan-tui completion fish`.
# wan-tui completion fish > ~/.config/fish/completions/wan-tui.fish
function __wan_tui_where
    set -l level ''
    set -l need ''
    set -l many ''
    set -l count 0
    for word in (commandline -opc)[2..-1]
        if test -n "$need"
            set need ''
            continue
        end
        switch $word
            case '-*'
                set many ''
                switch "$level $word"
VALUES
                end
            case '*'
                if test -n "$many"
                    continue
                end
                switch "$level $word"
                    case WAYS
                        set level (string trim -- "$level $word")
                        set count 0
                    case '*'
                        set count (math $count + 1)
                end
        end
    end
    echo "$level"
    echo "$level $count$many"
end

complete -c wan-tui -f
"""


def bash(levels: Sequence[Level], models: Sequence[str]) -> str:
    """For bash 4.4 and newer."""
    options = [_case(level, f"_wan_tui_add {_all(name for name, _ in _helped(level))}") for level in levels]
    commands = [
        _case(level, f"_wan_tui_add {_all(name for name, _ in level.commands)}") for level in levels if level.commands
    ]
    equals = 'cur=${cur#*=}; [[ -n $breaks ]] && lead=${cur%"${cur##*[$breaks]}"}'
    walk = _walk(levels, '"${words[@]:1}"', equals)
    return _filled(_BASH, WALK=[walk], OPTIONS=options, COMMANDS=commands, MODELS=[_all(models)])


def zsh(levels: Sequence[Level], models: Sequence[str]) -> str:
    """For zsh with its completion system."""
    options = [_case(level, f"rows=({_all(_rows(_helped(level)))})") for level in levels]
    commands = [_case(level, f"rows=({_all(_rows(level.commands))})") for level in levels if level.commands]
    walk = _walk(levels, '"${(@)words[2,CURRENT-1]}"', "compset -P '*='")
    return _filled(_ZSH, WALK=[walk], OPTIONS=options, COMMANDS=commands, MODELS=[_all(models)])


def fish(levels: Sequence[Level], models: Sequence[str]) -> str:
    """For fish 3.1 and newer."""
    names = " ".join(models)
    offers = {
        "model": f"-f -a {_fished(names)}",
        "place": f"-f -a {_fished(f'{names} (__fish_complete_directories)')}",
        "folder": "-f -a '(__fish_complete_directories)'",
        "file": "-F",
        "toml": "-f -k -a '(__fish_complete_suffix .toml)'",
        "planned": f"-f -a {_fished(f'{names} (__fish_complete_suffix .toml)')}",
        "none": "-f",
    }
    values = [
        f"                    case {way}\n                        set {what} 1" for way, what, _ in _values(levels)
    ]
    script = _filled(_FISH, VALUES=values, WAYS=[" ".join(_ways(levels))])
    return script + "\n".join([line for level in levels for line in _fish_level(level, offers)]) + "\n"


def _fish_level(level: Level, offers: dict[str, str]) -> Iterator[str]:
    def due(where: str) -> str:
        return f"complete -c wan-tui -n {_fished(f'contains -- {_fished(where)} (__wan_tui_where)')}"

    def offer(kind: str) -> str:
        return f"-f -a {_fished(kind[1:])}" if kind.startswith("=") else offers[kind]

    for name, help in level.commands:
        yield f"{due(f'{level.path} 0')} -f -a {name} -d {_fished(help)}"
    for count, kind in enumerate(level.kinds):
        last = level.endless and count == len(level.kinds) - 1
        if kind != "none":
            yield f"{due(level.path if last else f'{level.path} {count}')} {offer(kind)}"
    for option in level.options:
        names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
        value = f" -r {offer(option.kind)}" if option.kind else ""
        yield f"{due(level.path)} {names}{value} -d {_fished(option.help)}"
        if option.many:
            yield f"{due(f'{level.path} 01')} {offer(option.kind)}"


def _walk(levels: Sequence[Level], words: str, equals: str) -> str:
    """What bash and zsh do alike: find the command that is being written, and what is due at this place of it."""
    values = [f"            {way}) {what}='{kind}' ;;" for way, what, kind in _values(levels)]
    places = []
    for level in levels:
        for count, kind in enumerate(level.kinds):
            last = level.endless and count == len(level.kinds) - 1
            where = f"{shlex.quote(level.path + ' ')}*" if last else shlex.quote(f"{level.path} {count}")
            places.append(f"        {where}) want='{kind}' ;;")
    lines = {"values": "\n".join(values), "places": "\n".join(places), "commands": " | ".join(_ways(levels))}
    return _WALK.format(words=words, equals=equals, **lines).rstrip()


def _ways(levels: Iterable[Level]) -> list[str]:
    return [shlex.quote(f"{level.path} {name}") for level in levels for name, _ in level.commands]


def _values(levels: Iterable[Level]) -> list[tuple[str, str, str]]:
    """Every option that takes a value: where it stands, whether one or many are due, of which kind."""
    return [
        (shlex.quote(f"{level.path} {name}"), "many" if option.many else "need", option.kind)
        for level in levels
        for option in level.options
        if option.kind
        for name in option.names
    ]


def _helped(level: Level) -> list[tuple[str, str]]:
    return [(name, option.help) for option in level.options for name in option.names]


def _rows(named: Iterable[tuple[str, str]]) -> list[str]:
    """`name:help`, as zsh takes it."""
    return [f"{name}:{help}" for name, help in named]


def _case(level: Level, does: str) -> str:
    return f"        {shlex.quote(level.path)}) {does} ;;"


def _all(words: Iterable[str]) -> str:
    return " ".join(map(shlex.quote, words))


def _fished(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _filled(script: str, **parts: Sequence[str]) -> str:
    for name, lines in parts.items():
        script = script.replace(name, "\n".join(lines))
    return script
