// SPDX-License-Identifier: BSD-2-Clause
//! The command line.

use lexopt::prelude::*;

use crate::monitor;

/// What `--help` prints.
pub const HELP: &str = "\
Usage: wg-quick [ up [ --dry-run ] | down | save | strip ] [ CONFIG_FILE | INTERFACE ]

  up      make the interface and set it up as its file says; if something fails
          on the way, everything is as before
  down    take it down
  save    write the state of the interface into its file
  strip   print the file without the lines that wg(8) does not know

  --dry-run   print what `up' would do, and do nothing
  --help, --version

  CONFIG_FILE is a path whose last part is the name of an interface and `.conf'.
  INTERFACE stands for /etc/wireguard/INTERFACE.conf or, on FreeBSD, else
  /usr/local/etc/wireguard/INTERFACE.conf. The file is one for `wg setconf' that
  may also have, in its [Interface] section:

  Address     addresses with prefix lengths; may be repeated, as may DNS
  DNS         name servers, and domains to search
  MTU         bytes; by default, what the way to the endpoints allows
  Table       auto, off, or the routing table for the allowed IPs
  PreUp, PostUp, PreDown, PostDown
              shell commands, %i being the interface; may be repeated
  SaveConfig  true: `down' does a `save'

See wg-quick(8).
";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
    /// Set up; `dry`: only tell.
    Up {
        /// The file or interface.
        what: String,
        /// Only tell what would be done.
        dry: bool,
    },
    /// Take down.
    Down(String),
    /// Write the file.
    Save(String),
    /// Print the file.
    Strip(String),
    /// Be the route monitor; its arguments.
    Monitor(Vec<String>),
}

/// Reads the arguments, without the program's name.
///
/// # Errors
/// What is wrong with them.
pub fn parse(arguments: Vec<std::ffi::OsString>) -> Result<Order, String> {
    if arguments.first().is_some_and(|word| word == monitor::WORD) {
        let rest = arguments.into_iter().skip(1).map(|word| word.into_string());
        let rest: Result<_, _> = rest.collect();
        return rest.map(Order::Monitor).map_err(|_| "not UTF-8".to_owned());
    }
    let mut words = Vec::new();
    let mut dry = false;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        match argument {
            Short('h') | Long("help") => return Ok(Order::Help),
            Short('V') | Long("version") => return Ok(Order::Version),
            Short('n') | Long("dry-run") => dry = true,
            Value(word) => words.push(word.string().map_err(|e| e.to_string())?),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let order = match words
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["help"] => Order::Help,
        ["up", what] => Order::Up {
            what: (*what).to_owned(),
            dry,
        },
        ["down", what] => Order::Down((*what).to_owned()),
        ["save", what] => Order::Save((*what).to_owned()),
        ["strip", what] => Order::Strip((*what).to_owned()),
        _ => return Err("a subcommand and one file or interface are needed".to_owned()),
    };
    if dry && !matches!(order, Order::Up { .. }) {
        return Err("--dry-run is for `up'".to_owned());
    }
    Ok(order)
}
