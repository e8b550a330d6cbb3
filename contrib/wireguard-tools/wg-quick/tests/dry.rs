// SPDX-License-Identifier: BSD-2-Clause
//! Endpoints of a plan that is only printed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use wg_quick::dry::Names;
use wgtools::endpoint::{EndpointError, Resolve};

type Found = Result<Option<SocketAddr>, EndpointError>;

fn look_up(text: &str) -> Found {
    match text {
        "known.example:7" => Ok(Some("192.0.2.7:7".parse().unwrap())),
        _ => Err(EndpointError::Endpoint(format!("No such name: `{text}'"))),
    }
}

#[test]
fn names_that_are_not_found() {
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    let mut names = Names::with(look_up, Duration::from_secs(60), &mut warn);
    let known = Some("192.0.2.7:7".parse().unwrap());
    assert_eq!(names.endpoint("known.example:7"), Ok(known));
    assert_eq!(names.endpoint("192.0.2.7:7"), Ok(known));
    assert_eq!(names.endpoint("unknown.example:7"), Ok(None));
    // That is the file's fault.
    assert!(names.endpoint("unknown.example").is_err());
    assert_eq!(
        warnings,
        ["Warning: No such name: `unknown.example:7'; the plan is made without this endpoint"]
    );
}

#[test]
fn a_name_server_that_does_not_answer() {
    // Locked as long as the test runs, so that the lookup cannot end.
    let (hold, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let silent = move |_: &str| -> Found {
        let _ = held.lock().unwrap().recv();
        Ok(None)
    };
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    let mut names = Names::with(silent, Duration::ZERO, &mut warn);
    assert_eq!(names.endpoint("a.example:7"), Ok(None));
    assert_eq!(names.endpoint("b.example:7"), Ok(None));
    drop(hold);
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].contains("No answer") && warnings[0].contains("a.example:7"));
}
