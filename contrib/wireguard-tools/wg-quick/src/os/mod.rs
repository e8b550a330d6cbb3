// SPDX-License-Identifier: BSD-2-Clause
//! How one system does it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::command::Cmd;
use crate::config::{Address, Config, Table};
use crate::file::Job;
use crate::host::{Failure, Host};
use crate::plan::{Action, Create, Step};
use crate::{cmd, dns, query};

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

    /// MTU, up, and name servers, for an interface that has addresses and peers.
    ///
    /// # Errors
    /// The system's state could not be read.
    fn link(&self, host: &mut dyn Host, job: &Job, peers: &Peers) -> Result<Vec<Step>, Failure>;

    /// The routes, for an interface that is up. It may lock the host, for as long as the steps take.
    ///
    /// # Errors
    /// The system's state could not be read.
    fn routes(&self, host: &mut dyn Host, job: &Job, peers: &Peers) -> Result<Vec<Step>, Failure>;

    /// What takes an interface away that is up; each action is tried whatever happened to the one before. That
    /// something could not be asked is one of them. It may lock the host, for as long as the actions take.
    ///
    /// # Errors
    /// It was interrupted.
    fn remove(&self, host: &mut dyn Host, job: &Job) -> Result<Vec<Action>, Failure>;

    /// What removes the rules that a default route with this mark brought, and nobody else's.
    ///
    /// # Errors
    /// They could not be read.
    fn rules_to_remove(
        &self,
        _host: &mut dyn Host,
        _v4: bool,
        _mark: u32,
    ) -> Result<Vec<Cmd>, Failure> {
        Ok(Vec::new())
    }

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
    fn state(&self, host: &mut dyn Host, job: &Job) -> Result<State, Failure>;
}

/// What an interface has that is worth saving.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Values of `Address`.
    pub addresses: Vec<String>,
    /// Bytes.
    pub mtu: u32,
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

/// Prefixes that need a route of their own: neither default routes nor within a network that is routed to the interface
/// already, be it for an address or by a hook.
fn uncovered<'a>(peers: &'a Peers, connected: &'a [IpNet]) -> impl Iterator<Item = &'a IpNet> {
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
/// `wg` failed, or is not understood.
pub fn peers(host: &mut dyn Host, job: &Job) -> Result<Peers, Failure> {
    if host.is_dry() {
        return Ok(from_config(&job.config));
    }
    let name = &job.name;
    let allowed_ips = query::parsed(host, &cmd!["wg", "show", name, "allowed-ips"], |text| {
        let known = second_words(text).filter(|word| *word != "(none)");
        let prefixes: Option<Vec<IpNet>> = known.map(|word| word.parse().ok()).collect();
        Some(sorted(prefixes?.into_iter()))
    })?;
    let endpoints = known_endpoints(host, name)?;
    let fwmark = query::parsed(
        host,
        &cmd!["wg", "show", name, "fwmark"],
        |text| match text.trim() {
            "off" => Some(0),
            text => mark(text),
        },
    )?;
    Ok(Peers {
        allowed_ips,
        endpoints,
        fwmark,
    })
}

/// Asks `wg` for the addresses of all endpoints, each once.
///
/// # Errors
/// See [`peers`].
pub fn known_endpoints(host: &mut dyn Host, name: &str) -> Result<Vec<IpAddr>, Failure> {
    let cmd = cmd!["wg", "show", name, "endpoints"];
    let known = query::parsed(host, &cmd, |text| {
        // Those of a link, with its zone, have no other way than that link.
        let wide = second_words(text).filter(|word| *word != "(none)" && !word.contains('%'));
        let addresses = wide.map(|word| word.parse().ok().as_ref().map(SocketAddr::ip));
        addresses.collect::<Option<Vec<IpAddr>>>()
    })?;
    Ok(once(known.into_iter()))
}

fn from_config(config: &Config) -> Peers {
    Peers {
        allowed_ips: sorted(config.allowed_ips.iter().copied()),
        endpoints: once(config.endpoints.iter().map(SocketAddr::ip)),
        fwmark: config.fwmark.unwrap_or(0),
    }
}

/// The words after the first of each line.
fn second_words(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split_whitespace().skip(1))
}

/// `0x..` or decimal.
fn mark(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
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
