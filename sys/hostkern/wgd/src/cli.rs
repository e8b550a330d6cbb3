// SPDX-License-Identifier: BSD-2-Clause
//! The command line.

use clap::Parser;

/// The longest interface name that Linux and FreeBSD both take, in bytes.
pub const MAX_NAME: usize = 15;

/// A WireGuard interface in user space, run by the FreeBSD kernel driver's own code.
///
/// wgd creates the network interface and waits for its configuration by wg(8) on
/// /var/run/wireguard/IFNAME.sock. Removing that socket or the interface, SIGTERM and SIGINT end it.
#[derive(Parser, Debug)]
#[command(name = "wgd", version, max_term_width = 100)]
pub struct Cli {
    /// Stay in the foreground and log to standard error
    #[arg(short, long)]
    pub foreground: bool,

    /// Log the driver's debug messages
    #[arg(short, long)]
    pub verbose: bool,

    /// Name of the interface to create
    #[arg(value_parser = interface_name)]
    pub ifname: String,

    /// Set by wgd for the process that it leaves in the background: standard output is a pipe to the parent, on which
    /// it reports that the interface is ready.
    #[arg(long, hide = true)]
    pub report_ready: bool,
}

/// Accepts what `wg-quick` accepts. In particular no `/` (it becomes a file name), no `%` (the host would replace it
/// by a number) and no space.
fn interface_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("an interface name cannot be empty".into());
    }
    if text.len() > MAX_NAME {
        return Err(format!(
            "an interface name has at most {MAX_NAME} characters, this has {}",
            text.len()
        ));
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_=+.-".contains(&b);
    if !text.bytes().all(fits) || text == "." || text == ".." {
        return Err("an interface name is made of letters, digits and _=+.-".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn interface_names() {
        for good in ["wg0", "a", "wg-home_1.2", "123456789012345", "+=", "..."] {
            assert_eq!(interface_name(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "1234567890123456",
            ".",
            "..",
            "a/b",
            "wg%d",
            "wg 0",
            "wg\n",
            "é",
            "a:1",
        ] {
            assert!(interface_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn options() {
        let cli = Cli::try_parse_from(["wgd", "-fv", "wg3"]).unwrap();
        assert!(cli.foreground && cli.verbose && !cli.report_ready);
        assert_eq!(cli.ifname, "wg3");
        assert!(Cli::try_parse_from(["wgd"]).is_err());
        assert!(Cli::try_parse_from(["wgd", "wg0", "wg1"]).is_err());
    }
}
