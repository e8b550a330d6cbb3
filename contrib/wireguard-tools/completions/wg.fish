# SPDX-License-Identifier: BSD-2-Clause
# Completion of wg(8) for fish.

function __wg_interfaces
    command wg show interfaces 2>/dev/null | string split --no-empty ' '
end

# Words of the line so far that are no options, without wg itself and the one that is being written.
function __wg_given
    string match --invert -- '-*' (commandline -opc)[2..]
end

function __wg_at --argument-names command count
    set -l given (__wg_given)
    test (count $given) -eq $count; and test "$given[1]" = $command
end

# The peer that the words of `wg set` are about, or nothing.
function __wg_peer
    set -l words (commandline -opc)
    for position in (seq (count $words) -1 4)
        if test $words[$position] = peer
            echo $words[(math $position + 1)]
            return 0
        end
    end
    return 1
end

function __wg_column --argument-names field
    set -l key (__wg_peer)
    command wg show (__wg_given)[2] $field 2>/dev/null | string replace --filter --regex '^'(string escape --style=regex -- $key)'\t' '' | string match --invert '(none)'
end

# Whether the word before is this one, within `wg set INTERFACE`.
function __wg_after
    set -l given (__wg_given)
    test "$given[1]" = set; and test (count $given) -ge 3; and contains -- $given[-1] $argv
end

# Whether `wg set` wants the name of a setting next.
function __wg_setting
    set -l given (__wg_given)
    test "$given[1]" = set; and test (count $given) -ge 2
    and begin
        test (count $given) -eq 2
        or not contains -- $given[-1] listen-port fwmark private-key peer preshared-key endpoint persistent-keepalive allowed-ips
    end
end

complete -c wg -f
set -l first 'test (count (__wg_given)) -eq 0'
complete -c wg -n $first -a show -d 'Configuration and state'
complete -c wg -n $first -a showconf -d 'Configuration, as a file'
complete -c wg -n $first -a set -d 'Change some of it'
complete -c wg -n $first -a setconf -d 'Replace it by a file'
complete -c wg -n $first -a addconf -d 'Add a file to it'
complete -c wg -n $first -a syncconf -d 'Make it like a file, sparing sessions'
complete -c wg -n $first -a check -d 'Look for mistakes in a file'
complete -c wg -n $first -a genkey -d 'New private key'
complete -c wg -n $first -a genpsk -d 'New preshared key'
complete -c wg -n $first -a pubkey -d 'Public key of a private key'
complete -c wg -n $first -a help -d Usage
complete -c wg -n $first -a version -d 'Version of this program'
complete -c wg -n $first -l help -d Usage
complete -c wg -n $first -l version -d 'Version of this program'

complete -c wg -n '__wg_at show 1' -a '(__wg_interfaces) all interfaces'
complete -c wg -n 'test "$(__wg_given)[1]" = show' -l json -d 'For programs'
complete -c wg -n 'test "$(__wg_given)[1]" = show' -l watch -d 'Rates, again and again'
complete -c wg -n 'test "$(__wg_given)[1]" = show' -l count= -d 'Rounds of --watch'
complete -c wg -n 'test "$(__wg_given)[1]" = show' -l help -d Usage
complete -c wg -n '__wg_at show 2; and test (__wg_given)[2] != interfaces; and not string match -q -- "--*" (commandline -opc)' \
    -a 'public-key private-key listen-port fwmark peers preshared-keys endpoints allowed-ips latest-handshakes transfer persistent-keepalive dump'

for command in showconf set setconf addconf syncconf
    complete -c wg -n "__wg_at $command 1" -a '(__wg_interfaces)'
end
for command in setconf addconf syncconf
    complete -c wg -n "__wg_at $command 2" -F
end
complete -c wg -n '__wg_at check 1' -F

complete -c wg -n '__wg_setting; and not __wg_peer >/dev/null' -a 'listen-port fwmark private-key peer'
complete -c wg -n '__wg_setting; and __wg_peer >/dev/null' -a 'remove preshared-key endpoint persistent-keepalive allowed-ips peer'
complete -c wg -n '__wg_after fwmark' -a off
complete -c wg -n '__wg_after persistent-keepalive' -a 'off 25'
complete -c wg -n '__wg_after private-key preshared-key' -F
complete -c wg -n '__wg_after peer' -a '(command wg show (__wg_given)[2] peers 2>/dev/null)'
complete -c wg -n '__wg_after endpoint' -a '(__wg_column endpoints)'
complete -c wg -n '__wg_after allowed-ips' -a '(__wg_column allowed-ips | string replace --all " " ",")'
