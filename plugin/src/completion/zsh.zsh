#compdef kubectl-chaos
# Completion of kubectl-chaos for zsh.
_kubectl-chaos() {
    local -a found
    found=("${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    # The value of a flag is completed alone, behind its `=`.
    compset -P '-*='
    if [[ ${found[-1]} == :0 ]]; then
        _files
    else
        compadd -- "${(@)found[1,-2]}"
    fi
}
if [[ ${funcstack[1]} == _kubectl-chaos ]]; then
    _kubectl-chaos "$@"
else
    compdef _kubectl-chaos kubectl-chaos
fi
