# shellcheck shell=bash
# Command-line options for a bash script, by Kaldi's convention.
#
# An option is a variable that the calling script assigns, at the start of a line, above the line that sources this
# file; its value there is the default. `--name value` and `--name=value` set it, dashes in a name count as
# underscores, and a variable whose default is true or false takes nothing else. `--config FILE` reads defaults from a
# file of assignments; what stands on the command line wins. Anything else ends the script with one line, unless it said
# `declare -a given=()`: then options of other names are put there, as --name=value, for the script that it starts.
# Positional arguments are left in "$@".
#
# `--help` prints the comment at the script's head and, of what stands between `set` and the line that sources this, each
# option with its comment and value, comments as headings, and those that are indented as the text of the option above.
#
# Use:   # Data
#        nj=4                 # number of jobs
#        . utils/parse_options.sh

_po_script=${BASH_SOURCE[1]:-$0}
# Its path is relative to where it was called, which it may have left.
[[ -r ${_po_script} ]] || _po_script=${OLDPWD}/${_po_script}
_po_names=$(sed -n -E '/^(\.|source) .*parse_options\.sh/q; s/^([a-z][a-z0-9_]*)=.*/\1/p' "${_po_script}" |
    sort -u)
_po_given=$(declare -p given 2> /dev/null || :)
declare -A _po_flags=()
for _po_name in ${_po_names}; do
    [[ ${!_po_name} != true && ${!_po_name} != false ]] || _po_flags[${_po_name}]=1
done

# One clear line on stderr, then exit status 2.
_po_die() {
    echo "$(basename "${_po_script}"): error: $*" >&2
    exit 2
}

# The help, as above; an option's text is printed once all of it is known, before its value.
_po_help() {
    local line name='' text='' width
    width=$(awk 'length > n { n = length } END { print n < 6 ? 6 : n }' <<< "${_po_names}")
    printf 'Usage: %s [--option value ...]\n\n' "$(basename "${_po_script}")"
    sed -n -e '1d' -e '/^#/!q' -e 's/^# \{0,1\}//p' "${_po_script}"
    printf '\nOptions, with their values:\n'
    while IFS= read -r line; do
        if [[ ${line} =~ ^#\ {3,}(.*) ]]; then
            printf -v text '%s\n%*s%s' "${text}" $((width + 8)) '' "${line:4}"
            continue
        fi
        [[ -z ${name} ]] || printf '    --%-*s  %s\n' "${width}" "${name}" "${text}${!name:+${text:+ }(${!name})}"
        name=
        if [[ ${line} =~ ^([a-z][a-z0-9_]*)=(.*[[:space:]]#[[:space:]](.*))? ]]; then
            name=${BASH_REMATCH[1]} text=${BASH_REMATCH[3]}
        elif [[ ${line} =~ ^#\ (.+) ]]; then
            printf '  %s\n' "${BASH_REMATCH[1]}"
        fi
    done < <(
        sed -n -E '/^set /,/^(\.|source) .*parse_options\.sh/{/shellcheck/!p}' "${_po_script}"
        printf '%s\n' "config= # file of lines 'option=value' that is read before the command line" 'help= # this text' ''
    )
}

# The option name with the smallest edit distance to $1; nothing when none is near.
_po_nearest() {
    awk -v typed="$1" '
        function least(a, b) { return a < b ? a : b }
        function distance(s, t,    i, j, d, n, m) {
            n = length(s); m = length(t)
            for (i = 0; i <= n; i++) d[i, 0] = i
            for (j = 0; j <= m; j++) d[0, j] = j
            for (i = 1; i <= n; i++)
                for (j = 1; j <= m; j++)
                    d[i, j] = least(least(d[i-1, j], d[i, j-1]) + 1, \
                                    d[i-1, j-1] + (substr(s, i, 1) != substr(t, j, 1)))
            return d[n, m]
        }
        { d = distance(typed, $1); if (NR == 1 || d < best) { best = d; name = $1 } }
        END { if (NR && best <= length(typed) / 2 + 1) print name }' <<< "${_po_names}"
}

_po_is_own() {
    grep -q -x -F -- "$1" <<< "${_po_names}"
}

# End the script unless there is an option $1; $2 is how it was given.
_po_known() {
    local near
    if _po_is_own "$1" || [[ ${_po_given} == 'declare -a'* ]]; then return; fi
    near=$(_po_nearest "$1")
    # shellcheck disable=SC2016
    _po_die "unknown option '$2'${near:+; did you mean '--${near}'?} (--help lists all)"
}

# Set option $1 to value $2; $3 is how it was given.
_po_set() {
    _po_known "$1" "$3"
    if ! _po_is_own "$1"; then
        given+=("--$1=$2")
        return
    fi
    if [[ -n ${_po_flags[$1]:-} ]] && [[ $2 != true && $2 != false ]]; then
        _po_die "option '$3' takes true or false, not '$2'"
    fi
    printf -v "$1" '%s' "$2"
}

# The configuration file first, so that the command line wins whatever the order.
for ((_po_i = 1; _po_i <= $#; _po_i++)); do
    _po_arg=${!_po_i}
    _po_file=
    if [[ ${_po_arg} == --config=* ]]; then
        _po_file=${_po_arg#*=}
    elif [[ ${_po_arg} == --config ]]; then
        _po_j=$((_po_i + 1))
        [[ ${_po_j} -le $# ]] || _po_die "option '--config' needs a value"
        _po_file=${!_po_j}
    fi
    [[ -n ${_po_file} ]] || continue
    [[ -r ${_po_file} ]] || _po_die "option '--config': ${_po_file} cannot be read"
    while IFS= read -r _po_line || [[ -n ${_po_line} ]]; do
        _po_line=${_po_line%%#*}
        [[ ${_po_line} =~ ^[[:space:]]*$ ]] && continue
        [[ ${_po_line} =~ ^[[:space:]]*([A-Za-z0-9_-]+)=(.*)$ ]] ||
            _po_die "${_po_file}: expected lines 'name=value', found '${_po_line}'"
        _po_name=${BASH_REMATCH[1]}
        _po_value=${BASH_REMATCH[2]%"${BASH_REMATCH[2]##*[![:space:]]}"}
        [[ ${_po_value} =~ ^\"(.*)\"$ || ${_po_value} =~ ^\'(.*)\'$ ]] && _po_value=${BASH_REMATCH[1]}
        _po_set "${_po_name//-/_}" "${_po_value}" "${_po_file}: ${_po_name}"
    done < "${_po_file}"
done

while [[ $# -gt 0 ]]; do
    case $1 in
        -h | --help)
            _po_help
            exit 0
            ;;
        --config=*) shift ;;
        --config) shift 2 ;;
        --)
            shift
            break
            ;;
        --*=*)
            _po_name=${1%%=*}
            _po_name=${_po_name#--}
            _po_set "${_po_name//-/_}" "${1#*=}" "${1%%=*}"
            shift
            ;;
        --*)
            _po_name=${1#--}
            _po_name=${_po_name//-/_}
            if [[ $# -lt 2 ]]; then
                _po_known "${_po_name}" "$1"
                _po_die "option '$1' needs a value"
            fi
            _po_set "${_po_name}" "$2" "$1"
            shift 2
            ;;
        -?*) _po_die "unknown option '$1' (options begin with two dashes; --help lists all)" ;;
        *) break ;;
    esac
done
