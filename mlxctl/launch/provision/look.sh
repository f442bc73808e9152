# What a node has of ours and what it could install with. Fed to `/bin/sh -s` by look.py, which sets venv, python and
# facts before it; answers in lines "mlxctl KEY VALUE". Changes nothing. Plain sh: dash, and what macOS calls sh.

say() { printf 'mlxctl %s %s\n' "$1" "$2"; }

system=$(uname -s)
case $system in
Darwin) default="$HOME/Library/Application Support/mlxctl" ;;
*) default="${XDG_STATE_HOME:-$HOME/.local/state}/mlxctl" ;;
esac
home=${MLXCTL_HOME:-$default}
say home "$home"
say system "$system"

marker="$home/venvs/$venv/installed.json"
if [ -x "$home/venvs/$venv/bin/python" ] && [ -r "$marker" ]; then
    say installed "$(cat "$marker")"
    exit 0
fi

# macOS keeps a stub here that opens a window where the command line tools are missing.
is_stub() { [ "$system" = Darwin ] && [ "$1" = /usr/bin/python3 ] && ! xcode-select -p >/dev/null 2>&1; }

ask() {
    if [ ! -x "$1" ] || [ -d "$1" ] || is_stub "$1"; then return; fi
    answer=$("$1" -I -c "$facts" </dev/null 2>/dev/null) && say python "$answer" || say broken "$1"
}

ask_all() {
    for name in python3 python3.11 python3.12 python3.13 python3.14; do
        found=$(command -v "$name") && ask "$found"
    done
    for folder in /opt/homebrew/bin /usr/local/bin "$HOME/.local/bin" /opt/local/bin /usr/bin; do
        for path in "$folder"/python3 "$folder"/python3.[0-9] "$folder"/python3.[0-9][0-9]; do ask "$path"; done
    done
    for path in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3 \
        /Library/Frameworks/Python.framework/Versions/3.*/bin/python3 \
        "${XDG_DATA_HOME:-$HOME/.local/share}"/uv/python/cpython-3*/bin/python3 \
        "$HOME"/miniforge3/bin/python3 "$HOME"/miniconda3/bin/python3 "$HOME"/anaconda3/bin/python3; do
        ask "$path"
    done
}

case $python in
'') ask_all ;;
*/*) case $python in "~/"*) python="$HOME/${python#??}" ;; esac
    [ -x "$python" ] || say missing "$python"
    ask "$python" ;;
*) found=$(command -v "$python") && ask "$found" || say missing "$python" ;;
esac

for path in "$home"/wheels/*/*.whl; do
    [ -f "$path" ] && say wheel "${path#"$home"/wheels/}"
done

folder=$home
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
say space_kib "$(df -Pk "$folder" 2>/dev/null | awk 'NR == 2 { print $4 }')"
[ -w "$folder" ] || say unwritable "$folder"
exit 0
