# Completion of kubectl-chaos for bash 4.3 and later.
# shellcheck shell=bash
_kubectl_chaos() {
    local -a words=() found
    local word
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        # bash breaks words at these too, and puts in what follows the last of them only.
        if ((${#words[@]})) && [[ $word == [=:]* || ${words[-1]} == *[=:] ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    mapfile -t found < <("$1" __complete -- "${words[@]}" 2>/dev/null)
    ((${#found[@]})) || return 0
    if [[ ${found[-1]} == :0 ]]; then
        compopt -o default
    fi
    COMPREPLY=("${found[@]:0:${#found[@]}-1}")
    word=${words[-1]#-*=}
    if [[ $word == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
    fi
}
complete -F _kubectl_chaos kubectl-chaos
