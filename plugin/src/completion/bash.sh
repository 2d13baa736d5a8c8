# Completion of kubectl-chaos for bash 4 and later.
# shellcheck shell=bash
_kubectl_chaos() {
    local -a found
    mapfile -t found < <("$1" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    ((${#found[@]})) || return 0
    if [[ ${found[-1]} == :0 ]]; then
        compopt -o default
    fi
    COMPREPLY=("${found[@]:0:${#found[@]}-1}")
}
complete -F _kubectl_chaos kubectl-chaos
