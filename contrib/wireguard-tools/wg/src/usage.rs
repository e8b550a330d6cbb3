// SPDX-License-Identifier: BSD-2-Clause
//! How the commands are called.

/// The version of stock wg(8) whose interface this program has. Scripts look at it.
pub const VERSION: &str = "1.0.20260223";

/// Where the protocol and stock wg(8) come from.
pub const HOME: &str = "https://git.zx2c4.com/wireguard-tools/";

/// A command's usage.
#[derive(Clone, Copy, Debug)]
pub enum Usage {
    /// `show`.
    Show,
    /// `showconf`.
    Showconf,
    /// `set`.
    Set,
    /// `setconf`, `addconf`, `syncconf`.
    Conf(&'static str),
    /// `check`.
    Check,
    /// `genkey`, `genpsk`, `pubkey`.
    Key(&'static str),
}

impl Usage {
    /// What `--help` prints.
    pub fn help(self, program: &crate::Program) -> crate::Outcome {
        eprintln!("{}", self.text(&program.name));
        Ok(())
    }

    /// The line to print for a program of this name.
    pub fn text(self, program: &str) -> String {
        let rest = match self {
            Usage::Show => {
                let fields: Vec<_> =
                    wgtools::show::Field::ALL.iter().map(|&(name, _)| name).collect();
                format!(
                    "show {{ <interface> | all | interfaces }} [{} | --json | --watch[=<seconds>] [--count=<number>]]",
                    fields.join(" | ")
                )
            }
            Usage::Showconf => "showconf <interface>".to_owned(),
            Usage::Set => "set <interface> [listen-port <port>] [fwmark <mark>] [private-key <file path>] [peer <base64 \
                           public key> [remove] [preshared-key <file path>] [endpoint <ip>:<port>] \
                           [persistent-keepalive <interval seconds>] [allowed-ips \
                           [+|-]<ip1>/<cidr1>[,[+|-]<ip2>/<cidr2>]...] ]..."
                .to_owned(),
            Usage::Conf(command) => format!("{command} <interface> <configuration filename>"),
            Usage::Check => "check <configuration filename>".to_owned(),
            Usage::Key(command) => command.to_owned(),
        };
        format!("Usage: {program} {rest}")
    }
}

const COMMANDS: [(&str, &str); 10] = [
    (
        "show",
        "Shows the current configuration and device information",
    ),
    (
        "showconf",
        "Shows the current configuration of a given WireGuard interface, for use with `setconf'",
    ),
    (
        "set",
        "Change the current configuration, add peers, remove peers, or change peers",
    ),
    (
        "setconf",
        "Applies a configuration file to a WireGuard interface",
    ),
    (
        "addconf",
        "Appends a configuration file to a WireGuard interface",
    ),
    (
        "syncconf",
        "Synchronizes a configuration file to a WireGuard interface",
    ),
    (
        "genkey",
        "Generates a new private key and writes it to stdout",
    ),
    (
        "genpsk",
        "Generates a new preshared key and writes it to stdout",
    ),
    (
        "pubkey",
        "Reads a private key from stdin and writes a public key to stdout",
    ),
    (
        "check",
        "Says all that is wrong with a configuration file, and changes nothing",
    ),
];

/// The usage of the program as a whole, with the newline at its end.
pub fn top(program: &str) -> String {
    let mut text = format!("Usage: {program} <cmd> [<args>]\n\nAvailable subcommands:\n");
    for (name, what) in COMMANDS {
        text.push_str(&format!("  {name}: {what}\n"));
    }
    text.push_str("You may pass `--help' to any of these subcommands to view usage.\n");
    text
}
