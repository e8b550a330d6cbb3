// SPDX-License-Identifier: BSD-2-Clause
//! How one system does it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::command::Cmd;
use crate::config::{Address, Config, Table};
use crate::file::Job;
use crate::host::{Failure, Host};
use crate::plan::{Action, Create, Step};
use crate::{cmd, dns};

pub mod freebsd;
pub mod linux;

/// What `wg` reports about an interface that is set up: the routes are made from it, since hooks may have changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// All allowed IPs, each once, longest prefix first.
    pub allowed_ips: Vec<IpNet>,
    /// All endpoints that are known, each once.
    pub endpoints: Vec<IpAddr>,
    /// The mark; 0 is none.
    pub fwmark: u32,
}

/// A system's way to do things.
pub trait Os {
    /// Folders with configuration files, the first that has one counts.
    fn folders(&self) -> &'static [&'static str];

    /// The program that is an interface, if the kernel is none.
    fn process(&self) -> &'static str;

    /// How an interface is made, by the kernel or by `process`.
    fn create(&self, name: &str, process: &str) -> Create;

    /// How it is removed, or `has_socket`: how the process behind it is told to end.
    fn delete(&self, name: &str, has_socket: bool) -> Cmd;

    /// How it gets an address.
    fn address(&self, name: &str, address: &Address) -> Cmd;

    /// What resolvconf(8) is asked, to add what it reads and to forget it.
    fn resolvconf(&self, host: &mut dyn Host, name: &str) -> Resolvconf;

    /// Checks, before anything is touched, that this system can do what a file asks.
    ///
    /// # Errors
    /// What it cannot do.
    fn check(&self, host: &mut dyn Host, job: &Job) -> Result<(), Failure>;

    /// Everything from the MTU to the last route, for an interface that has addresses and peers.
    ///
    /// # Errors
    /// The system's state could not be read.
    fn finish(&self, host: &mut dyn Host, job: &Job, peers: &Peers) -> Result<Vec<Step>, Failure>;

    /// What takes an interface away that is up; each action is tried whatever happened to the one before.
    ///
    /// # Errors
    /// The system's state could not be read.
    fn remove(&self, host: &mut dyn Host, job: &Job) -> Result<Vec<Action>, Failure>;

    /// What is left over of an interface that was just taken away.
    fn afterwards(&self, _host: &mut dyn Host, _removed: &Removed) -> Vec<Action> {
        Vec::new()
    }

    /// Notes before an interface goes what [`Os::afterwards`] looks for.
    ///
    /// # Errors
    /// The system's state could not be read.
    fn before(&self, _host: &mut dyn Host, _job: &Job) -> Result<Removed, Failure> {
        Ok(Removed::default())
    }

    /// Addresses that the interface has, as values of `Address`, and its MTU in bytes.
    ///
    /// # Errors
    /// The system's state could not be read.
    fn state(&self, host: &mut dyn Host, job: &Job) -> Result<(Vec<String>, Option<u32>), Failure>;
}

/// What an interface leaves behind for a moment when it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Endpoints with a route of their own.
    pub direct: Vec<IpAddr>,
}

/// The two calls of resolvconf(8) for an interface, the first without its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolvconf {
    /// Adds what it reads.
    pub add: Cmd,
    /// Forgets it.
    pub forget: Cmd,
    /// Lists it.
    pub list: Cmd,
}

/// This machine's system.
pub fn native() -> &'static dyn Os {
    if cfg!(target_os = "freebsd") {
        &freebsd::FreeBsd
    } else {
        &linux::Linux
    }
}

/// The step for `DNS`, if the file has it.
fn dns_step(os: &dyn Os, host: &mut dyn Host, job: &Job) -> Option<Step> {
    let calls = os.resolvconf(host, &job.name);
    dns::wanted(&job.config)
        .then(|| Step::run(calls.add.with_input(dns::record(&job.config))).undone_by(calls.forget))
}

/// Whether one of the prefixes is a default route of the given family.
fn has_default(allowed_ips: &[IpNet], v4: bool) -> bool {
    allowed_ips
        .iter()
        .any(|net| net.prefix_len() == 0 && net.addr().is_ipv4() == v4)
}

/// Prefixes that need a route of their own: neither default routes nor within the network of an address, which the
/// system routes by itself.
fn uncovered<'a>(job: &'a Job, peers: &'a Peers) -> impl Iterator<Item = &'a IpNet> {
    let connected: Vec<IpNet> = job.config.addresses.iter().map(Address::net).collect();
    let longer = peers.allowed_ips.iter().filter(|net| net.prefix_len() > 0);
    longer.filter(move |net| !connected.iter().any(|wide| wide.contains(*net)))
}

/// The table that a file names, unless it is the usual one or none.
fn named_table(job: &Job) -> Option<String> {
    match job.config.table() {
        Table::Other(name) => Some(name),
        Table::Auto | Table::Off => None,
    }
}

/// Asks `wg` about an interface. Before there is one, the configuration has to do.
///
/// # Errors
/// `wg` could not be started.
pub fn peers(host: &mut dyn Host, job: &Job) -> Result<Peers, Failure> {
    if host.is_dry() {
        return Ok(from_config(&job.config));
    }
    let mut ask = |field: &str| {
        let cmd = cmd!["wg", "show", job.name, field];
        host.query(&cmd).map(|answer| answer.text())
    };
    let prefixes = ask("allowed-ips")?;
    let known = ask("endpoints")?;
    let fwmark = ask("fwmark")?;
    Ok(Peers {
        allowed_ips: sorted(second_words(&prefixes).filter_map(|word| word.parse().ok())),
        endpoints: endpoints(&known),
        fwmark: number(fwmark.trim()),
    })
}

fn from_config(config: &Config) -> Peers {
    Peers {
        allowed_ips: sorted(config.allowed_ips.iter().copied()),
        endpoints: once(config.endpoints.iter().map(SocketAddr::ip)),
        fwmark: config.fwmark.unwrap_or(0),
    }
}

/// The addresses in what `wg show IF endpoints` prints, each once.
pub fn endpoints(said: &str) -> Vec<IpAddr> {
    once(second_words(said).filter_map(ip_of))
}

/// The words after the first of each line.
fn second_words(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split_whitespace().skip(1))
}

/// The address of an endpoint. Those of a link have no other way than that link.
fn ip_of(endpoint: &str) -> Option<IpAddr> {
    endpoint
        .parse::<SocketAddr>()
        .ok()
        .map(|address| address.ip())
}

/// `0x..`, decimal, or `off`.
fn number(text: &str) -> u32 {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.unwrap_or(0)
}

fn sorted(prefixes: impl Iterator<Item = IpNet>) -> Vec<IpNet> {
    let mut list: Vec<IpNet> = prefixes.map(|net| net.trunc()).collect();
    list.sort_by_key(|net| (std::cmp::Reverse(net.prefix_len()), *net));
    list.dedup();
    list
}

fn once(ips: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut seen = std::collections::HashSet::new();
    ips.filter(|ip| seen.insert(*ip)).collect()
}
