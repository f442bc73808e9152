# What is asked of a node in plain sh: before our code is there, and after it has died. Run by launch/node_shell.py and
# launch/claims.py with VERB ARGUMENTS, from the head of stdin; answers in lines "mlxctl KEY VALUE". Processes are written
# PID:START, where START tells a process from a later one with its pid. Plain sh: dash, and what macOS calls sh.

say() { printf 'mlxctl %s %s\n' "$1" "$2"; }

case $(uname -s) in
Darwin) default="$HOME/Library/Application Support/mlxctl" ;;
*) default="${XDG_STATE_HOME:-$HOME/.local/state}/mlxctl" ;;
esac
home=${MLXCTL_HOME:-$default}
claim="$home/claim"

# "STATE START" of a pid; nothing where there is none. A process is no zombie before its last thread has ended, which may
# hold ports and memory for a second after the first one. (macOS: unverified on a Mac.)
seen() {
    if [ -r /proc/self/stat ]; then
        sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '{ print ($18 > 1 ? "R" : $1), $20 }'
    else
        since=$(TZ=UTC LC_ALL=C ps -o lstart= -p "$1") || return 0
        echo "$(ps -o state= -p "$1") $(TZ=UTC LC_ALL=C date -j -f '%a %b %d %T %Y' "$since" +%s)"
    fi
}

identity() { set -- "$1" $(seen "$1"); echo "$1:${3:-0}"; }

is_alive() {
    set -- "${1%%:*}" "${1#*:}" $(seen "${1%%:*}")
    [ $# -eq 4 ] && [ "$4" = "$2" ] || return 1
    case $3 in [ZXx]*) return 1 ;; esac
}

any_alive() { for each in "$@"; do is_alive "$each" && return 0; done; return 1; }

# Waits up to $1 tenths of a second until none of the rest is alive.
wait_for() {
    tenths=$1; shift
    while any_alive "$@"; do
        [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1)); sleep 0.1
    done
}

signal_all() { # NAME PROCESS…
    name=$1; shift
    for each in "$@"; do is_alive "$each" && kill "-$name" "${each%%:*}" 2>/dev/null; done
    return 0
}

# TERM, KILL after $1 tenths, verified: says which ran and which are alive all the same.
end() {
    grace=$1; shift
    for each in "$@"; do is_alive "$each" && say ran "$each"; done
    signal_all TERM "$@"; wait_for "$grace" "$@" && return
    signal_all KILL "$@"; wait_for 30 "$@" && return
    for each in "$@"; do is_alive "$each" && say left "$each"; done
}

# The claim's file: its keeper, when it was last renewed (Unix time), the workers that it covers, whose it is (JSON).
read_claim() {
    keeper= renewed= workers= text=
    [ -r "$claim" ] && { read -r keeper; read -r renewed; read -r workers; IFS= read -r text; } <"$claim"
}

write_claim() {
    printf '%s\n%s\n%s\n%s\n' "$me" "$(date +%s)" "$workers" "$text" >"$claim.$$"
}

verb=$1; shift
case $verb in
start) # ARGUMENTS: say who this is, then become the command
    say process "$(identity $$)"
    exec "$@" ;;
look)
    say system "$(uname -s)"
    say boot "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || sysctl -n kern.bootsessionuuid)"
    say home "$home"
    set -- ${SSH_CONNECTION:-}
    say address "${3:-}"
    read_claim
    if [ -n "$keeper" ]; then
        is_alive "$keeper" && say claim_alive yes
        say claim_age "$(($(date +%s) - ${renewed:-0}))"
        say claim_workers "$workers"
        say claim "$text"
    fi ;;
keep) # lines on stdin, "WORKERS JSON" each, renew the claim; their end gives it up
    me=$(identity $$)
    (umask 077; mkdir -p "$home") && IFS=' ' read -r workers text && write_claim || exit 1
    ln "$claim.$$" "$claim" 2>/dev/null && taken=no || taken=yes
    rm -f "$claim.$$"
    say taken "$taken"
    [ "$taken" = no ] || exit 1
    covered=$workers
    while IFS=' ' read -r workers text; do
        covered=$workers
        read -r holder <"$claim" && [ "$holder" = "$me" ] || exit 1
        write_claim && mv -f "$claim.$$" "$claim"
    done
    # The launcher is gone or has ended its workers. One that is stopped does not see that.
    workers=$(echo "$covered" | tr ',-' '  ')
    wait_for 20 $workers || signal_all KILL $workers
    read -r holder <"$claim" && [ "$holder" = "$me" ] && rm -f "$claim" "$claim".* ;;
end) # TENTHS PROCESS…
    end "$@" ;;
clear) # TENTHS PROCESS…: end them and whatever the claim covers, then remove the claim
    read_claim
    end "$@" $(echo "$workers" | tr ',-' '  ') $keeper
    rm -f "$claim" "$claim".* ;;
esac
exit 0
