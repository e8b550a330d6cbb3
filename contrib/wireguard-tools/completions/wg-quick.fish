# SPDX-License-Identifier: BSD-2-Clause
# Completion of wg-quick(8) for fish.

function __wg_quick_given
    string match --invert -- '-*' (commandline -opc)[2..]
end

# Whether the first of these words is the command and nothing comes after it.
function __wg_quick_at
    set -l given (__wg_quick_given)
    test (count $given) -eq 1; and contains -- $given[1] $argv
end

# Names of the configuration files that need no path.
function __wg_quick_configured
    set -l files /etc/wireguard/*.conf /usr/local/etc/wireguard/*.conf
    string replace --regex '.*/(.*)\.conf$' '$1' -- $files
end

# Files of that kind, and folders on the way to them.
function __wg_quick_files
    set -l word (commandline -ct)
    set -l found $word*.conf $word*/
    printf '%s\n' $found
end

complete -c wg-quick -f
set -l first 'test (count (__wg_quick_given)) -eq 0'
complete -c wg-quick -n $first -a up -d 'Set a tunnel up'
complete -c wg-quick -n $first -a down -d 'Take it down'
complete -c wg-quick -n $first -a save -d 'Write its state to its file'
complete -c wg-quick -n $first -a strip -d 'Print the part for wg'
complete -c wg-quick -n $first -a help -d Usage
complete -c wg-quick -l help -d Usage
complete -c wg-quick -n 'test "$(__wg_quick_given)[1]" = up' -l dry-run -d 'Print the commands only'
complete -c wg-quick -n '__wg_quick_at up strip' -a '(__wg_quick_configured)'
complete -c wg-quick -n '__wg_quick_at up strip' -a '(__wg_quick_files)'
complete -c wg-quick -n '__wg_quick_at down save' -a '(command wg show interfaces 2>/dev/null | string split --no-empty " ")'
