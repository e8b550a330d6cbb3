// SPDX-License-Identifier: BSD-2-Clause
//! A machine that only exists on paper.
#![allow(dead_code)] // Each test program uses a part of it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use wg_quick::command::Cmd;
use wg_quick::config::Config;
use wg_quick::file::Job;
use wg_quick::hook::Code;
use wg_quick::host::{Answer, Failure, Host};
use wg_quick::monitor::Monitor;
use wgtools::endpoint::Syntax;
use zeroize::Zeroizing;

/// Two keys of the right form.
pub const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
pub const PEER: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// Remembers what it is told to do. A command can be made to fail, or to be interrupted.
#[derive(Default)]
pub struct Fake {
    /// Commands, hooks and `monitor` as they come.
    pub did: Vec<String>,
    /// Lines for the user.
    pub said: Vec<String>,
    /// What was given to commands that read something.
    pub inputs: Vec<(String, String)>,
    /// Answers to questions; others fail,
    pub answers: HashMap<String, String>,
    /// some of them with these words on standard error.
    pub refusals: HashMap<String, String>,
    pub programs: HashSet<String>,
    /// Programs that are symbolic links.
    pub links: HashSet<String>,
    /// Each `lock` and `unlock`, with the number of deeds before it.
    pub locks: Vec<(&'static str, usize)>,
    pub paths: HashSet<String>,
    pub files: HashMap<String, String>,
    pub interfaces: HashSet<String>,
    /// What was added to the policy routing, by family, as JSON: the last comes first.
    pub rules: HashMap<String, Vec<String>>,
    /// The number of the deed, from 0, that does not work.
    pub fail_at: Option<usize>,
    /// It is done nevertheless, and a signal came.
    pub by_signal: bool,
    /// What `attempt` says instead of working.
    pub attempt_says: Option<String>,
    pub shielded: bool,
}

impl Fake {
    pub fn answer(mut self, question: &str, text: &str) -> Fake {
        self.answers.insert(question.to_owned(), text.to_owned());
        self
    }

    pub fn file(mut self, path: &str, text: &str) -> Fake {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// The program fails at this question, and tells so.
    pub fn refuse(mut self, question: &str, said: &str) -> Fake {
        self.answers.remove(question);
        self.refusals.insert(question.to_owned(), said.to_owned());
        self
    }

    pub fn program(mut self, name: &str) -> Fake {
        self.programs.insert(name.to_owned());
        self
    }

    fn deed(&mut self, what: &str) -> Result<(), Failure> {
        self.did.push(what.to_owned());
        let fails = self.fail_at == Some(self.did.len() - 1);
        if !fails || self.by_signal {
            self.follow(what);
        }
        match (fails, self.by_signal) {
            (false, _) => Ok(()),
            (true, false) => Err(Failure::Failed(format!("`{what}' failed"))),
            (true, true) => Err(Failure::Interrupted(15)),
        }
    }

    fn rules_of(&mut self, family: &str) -> &mut Vec<String> {
        self.rules.entry(family.to_owned()).or_default()
    }

    /// Interfaces and rules come and go.
    fn follow(&mut self, what: &str) {
        match what.split(' ').collect::<Vec<_>>().as_slice() {
            ["ifconfig", "wg", "create", "name", name]
            | ["ip", "link", "add", "dev", name, "type", "wireguard"] => {
                self.interfaces.insert((*name).to_owned());
            }
            ["wgd" | "wireguard-go", name] => {
                self.interfaces.insert((*name).to_owned());
                self.paths.insert(format!("/var/run/wireguard/{name}.sock"));
            }
            ["ifconfig", name, "destroy"] | ["ip", "link", "delete", "dev", name] => {
                self.interfaces.remove(*name);
                self.paths
                    .remove(&format!("/var/run/wireguard/{name}.sock"));
            }
            [
                "ip",
                family,
                "rule",
                "add",
                "not",
                "fwmark",
                mark,
                "table",
                table,
            ] => {
                let mark: u32 = mark.parse().unwrap();
                let rule =
                    format!(r#""not":null,"src":"all","fwmark":"{mark:#x}","table":"{table}""#);
                self.rules_of(family).insert(0, rule);
            }
            ["ip", family, "rule", "add", "table", "main", ..] => {
                let rule = r#""src":"all","table":"254","suppress_prefixlen":0"#;
                self.rules_of(family).insert(0, rule.to_owned());
            }
            ["ip", family, "rule", "delete", "table", table, ..] => {
                let table = format!("\"table\":\"{}\"", table.replace("main", "254"));
                let rules = self.rules_of(family);
                if let Some(at) = rules.iter().position(|rule| rule.contains(&table)) {
                    rules.remove(at);
                }
            }
            ["rm", "-f", socket] => {
                self.paths.remove(*socket);
                let name = socket.rsplit('/').next().unwrap_or_default();
                self.interfaces.remove(name.trim_end_matches(".sock"));
            }
            _ => {}
        }
    }
}

impl Host for Fake {
    fn say(&mut self, line: &str) {
        self.said.push(line.to_owned());
    }

    fn run(&mut self, cmd: &Cmd) -> Result<(), Failure> {
        if let Some(input) = cmd.input() {
            let text = String::from_utf8_lossy(input).into_owned();
            self.inputs.push((cmd.to_string(), text));
        }
        self.deed(&cmd.to_string())
    }

    fn attempt(&mut self, cmd: &Cmd) -> Result<Result<(), String>, Failure> {
        if let Some(text) = self.attempt_says.clone() {
            self.did.push(cmd.to_string());
            return Ok(Err(text));
        }
        match self.run(cmd) {
            Err(Failure::Failed(text)) => Ok(Err(text)),
            other => other.map(Ok),
        }
    }

    fn hook(&mut self, code: &Code) -> Result<(), Failure> {
        self.deed(&format!("hook {code}"))
    }

    fn query(&mut self, cmd: &Cmd) -> Result<Answer, Failure> {
        let added = match *cmd.arguments() {
            [ref json, ref numeric, ref family, ..] if json == "-j" && numeric == "-N" => {
                self.rules_of(family).clone()
            }
            _ => Vec::new(),
        };
        let rule =
            |(at, rule): (usize, &String)| format!("{{\"priority\":{},{rule}}}", 30_000 + at);
        let rules: Vec<String> = added.iter().enumerate().map(rule).collect();
        let rules = format!("[{}]", rules.join(","));
        let text = self.answers.get(&cmd.to_string());
        let text = if added.is_empty() { text } else { Some(&rules) };
        Ok(Answer {
            ok: text.is_some(),
            out: Zeroizing::new(text.cloned().unwrap_or_default().into_bytes()),
            said: self
                .refusals
                .get(&cmd.to_string())
                .cloned()
                .unwrap_or_default(),
        })
    }

    fn index(&mut self, interface: &str) -> Option<u32> {
        self.interfaces.contains(interface).then_some(7)
    }

    fn exists(&mut self, path: &str) -> bool {
        self.paths.contains(path)
    }

    fn read(&mut self, path: &str) -> Option<String> {
        self.files.get(path).cloned()
    }

    fn has_program(&mut self, name: &str) -> bool {
        self.programs.contains(name)
    }

    fn is_link(&mut self, name: &str) -> bool {
        self.links.contains(name)
    }

    fn lock(&mut self) -> Result<(), Failure> {
        if !matches!(self.locks.last(), Some(("lock", _))) {
            self.locks.push(("lock", self.did.len()));
        }
        Ok(())
    }

    fn unlock(&mut self) {
        self.locks.push(("unlock", self.did.len()));
    }

    fn start_monitor(&mut self, monitor: &Monitor) -> Result<(), Failure> {
        let line = format!(
            "monitor {} {:?}",
            monitor.arguments()[1..].join(" "),
            monitor.direct
        );
        self.deed(&line)
    }

    fn stop_monitor(&mut self) {
        self.did.push("stop monitor".to_owned());
    }

    fn pause(&mut self) {}

    fn shield(&mut self, _hooks: bool) {
        self.shielded = true;
    }
}

/// A file for interface wg0.
pub fn job(text: &str) -> Job {
    let job = Job {
        name: "wg0".to_owned(),
        path: PathBuf::from("/etc/wireguard/wg0.conf"),
        config: Config::parse(text.as_bytes(), &mut Syntax),
    };
    assert_eq!(job.problems(), Vec::<String>::new(), "{text}");
    job
}

/// A file with everything in it, for a tunnel with these allowed IPs.
pub fn everything(allowed_ips: &str) -> Job {
    job(&format!(
        "[Interface]\nAddress = 10.77.0.1/24, fd77::1/64\nDNS = 10.77.0.53, example.org\nPrivateKey = {KEY}\n\
         PreUp = pre %i\nPostUp = post %i\nPreDown = unpost %i\nPostDown = unpre %i\n\
         [Peer]\nPublicKey = {PEER}\nAllowedIPs = {allowed_ips}\nEndpoint = 192.0.2.2:51820\n"
    ))
}
