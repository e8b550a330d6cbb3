// SPDX-License-Identifier: BSD-2-Clause
//! `wg set`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use wgtools::backend::Backend;
use wgtools::change::{Change, PeerChange};
use wgtools::config;
use wgtools::endpoint::{self, EndpointError, Resolve};

use crate::usage::Usage;
use crate::{Failure, Outcome, Program};

/// Bytes of an interface's name that the kernels look at.
const NAME: usize = 15;

/// `wg set`.
pub fn set(program: &Program, args: &[OsString]) -> Outcome {
    let [name, words @ ..] = args else {
        return Err(Failure::Usage(Usage::Set));
    };
    if words.is_empty() {
        return Err(Failure::Usage(Usage::Set));
    }
    apply(program, name, &change(words)?)
}

/// Makes a change, or says why it was refused.
pub fn apply(program: &Program, name: &OsStr, change: &Change) -> Outcome {
    let done = program.interfaces.set(&short_name(name), change);
    done.map_err(|e| Failure::system("Unable to modify interface", &e))
}

/// The name as stock wg(8) passes it on: cut to what a kernel takes.
pub fn short_name(name: &OsStr) -> String {
    let bytes = name.as_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(NAME)]).into_owned()
}

/// What the words ask for.
fn change(words: &[OsString]) -> Result<Change, Failure> {
    let mut change = Change::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let invalid = || {
            let word = wgtools::visible(word.as_bytes());
            Failure::Message(format!("Invalid argument: {word}"))
        };
        // The word's value; without one the word is what is wrong.
        let mut value = || words.next().ok_or_else(invalid);
        let message = Failure::Message;
        let word = word.as_bytes();
        match (change.peers.last_mut(), word) {
            (_, b"peer") => {
                let key = config::public_key(value()?.as_bytes()).map_err(message)?;
                change.peers.push(PeerChange::new(key));
            }
            (None, b"listen-port") => {
                let text = value()?.to_string_lossy();
                change.listen_port = Some(listen_port(&text)?);
            }
            (None, b"fwmark") => {
                change.fwmark = Some(config::fwmark(value()?.as_bytes()).map_err(message)?);
            }
            (None, b"private-key") => {
                change.private_key = Some(config::key_file(Path::new(value()?)).map_err(message)?);
            }
            (Some(peer), b"remove") => peer.remove = true,
            (Some(peer), b"endpoint") => {
                let mut announce = |text: &str| eprintln!("{text}");
                let found =
                    endpoint::System::new(&mut announce).endpoint(&value()?.to_string_lossy());
                let (EndpointError::Endpoint(text) | EndpointError::Setting(text)) = match found {
                    Ok(address) => {
                        peer.endpoint = address;
                        continue;
                    }
                    Err(e) => e,
                };
                return Err(message(text));
            }
            (Some(peer), b"allowed-ips") => {
                let text = value()?.as_bytes();
                let list: Vec<u8> = text
                    .iter()
                    .copied()
                    .filter(|&b| !config::is_space(b))
                    .collect();
                let mut warn = |text| eprintln!("{text}");
                config::allowed_ips(peer, &list, &mut warn).map_err(message)?;
            }
            (Some(peer), b"persistent-keepalive") => {
                let seconds = config::keepalive(value()?.as_bytes()).map_err(message)?;
                peer.persistent_keepalive = Some(seconds);
            }
            (Some(peer), b"preshared-key") => {
                let key = config::key_file(Path::new(value()?)).map_err(message)?;
                peer.preshared_key = Some(key);
            }
            _ => return Err(invalid()),
        }
    }
    Ok(change)
}

fn listen_port(text: &str) -> Result<u16, Failure> {
    if text.is_empty() {
        return Err(Failure::Message("Unable to parse empty port".to_owned()));
    }
    endpoint::port(text).map_err(|reason| {
        let text = wgtools::visible(text.as_bytes());
        Failure::Message(format!("{reason}: `{text}'"))
    })
}
