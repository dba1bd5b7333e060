"""What a shell sources; each asks `kubectl_complete-localmodel` for what could come next."""

from typing import Final

SCRIPTS: Final = {
    "bash": """\
# source <(kubectl-localmodel completion bash)
_kubectl_localmodel() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        [[ $word == :* ]] || COMPREPLY+=("${word%%$'\\t'*}")
    done < <(kubectl_complete-localmodel "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _kubectl_localmodel kubectl-localmodel
""",
    "zsh": """\
#compdef kubectl-localmodel
# source <(kubectl-localmodel completion zsh)
_kubectl_localmodel() {
    local word
    local -a found
    while IFS= read -r word; do
        case $word in
            :0) _files; return ;;
            :*) ;;
            *) found+=("${word%%$'\\t'*}") ;;
        esac
    done < <(kubectl_complete-localmodel "${(@)words[2,CURRENT]}" 2>/dev/null)
    compadd -a found
}
compdef _kubectl_localmodel kubectl-localmodel
""",
    "fish": """\
# kubectl-localmodel completion fish | source
function __kubectl_localmodel
    set -l words (commandline -opc) (commandline -ct)
    set -l found (kubectl_complete-localmodel $words[2..-1] 2>/dev/null)
    if contains -- :0 $found
        __fish_complete_path (commandline -ct)
    else
        string match -v -r '^:\\d+$' -- $found
    end
end
complete -c kubectl-localmodel -f -a '(__kubectl_localmodel)'
""",
}
