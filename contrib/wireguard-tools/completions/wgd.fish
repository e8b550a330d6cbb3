# SPDX-License-Identifier: BSD-2-Clause
# Completion of wgd(8) for fish. A name for a new interface is the user's to find.

complete -c wgd -f
complete -c wgd -s f -l foreground -d 'Stay in the foreground and log to standard error'
complete -c wgd -s v -l verbose -d 'Log debug messages'
complete -c wgd -s h -l help -d Usage
complete -c wgd -s V -l version -d 'Version of this program'
