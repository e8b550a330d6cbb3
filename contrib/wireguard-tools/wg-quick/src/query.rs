// SPDX-License-Identifier: BSD-2-Clause
//! Questions to other programs.
//!
//! "There is none" is an answer. A program that fails, or prints something that is not understood, gave no answer, and
//! nothing may be planned from that: a file would lose its addresses, or a routing table that is in use look free.

use std::fmt;

use zeroize::Zeroizing;

use crate::command::Cmd;
use crate::host::{Failure, Host};

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// The program failed.
    Failed {
        /// The question.
        cmd: Cmd,
        /// What it printed on standard error.
        said: String,
    },
    /// The program printed something that is not understood, or nothing where there must be something.
    NotUnderstood {
        /// The question.
        cmd: Cmd,
        /// What is not understood; empty if nothing was printed.
        what: String,
    },
    /// It could not be asked at all.
    NotAsked(Failure),
}

impl QueryError {
    /// What was printed by `cmd` is not understood, from its first line on.
    pub fn not_understood(cmd: &Cmd, printed: &str) -> QueryError {
        let line = printed.lines().find(|line| !line.trim().is_empty());
        QueryError::NotUnderstood {
            cmd: cmd.clone(),
            what: line.unwrap_or_default().trim().chars().take(80).collect(),
        }
    }

    /// Whether the program failed and told this.
    pub fn told(&self, words: &str) -> bool {
        matches!(self, QueryError::Failed { said, .. } if said.contains(words))
    }

    /// Whether the kernel lacks what was asked about: IPv6, policy routing, nftables.
    pub fn is_unsupported(&self) -> bool {
        // musl's word for EOPNOTSUPP stands alone and has a capital.
        self.told("not supported") || self.told("Not supported")
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueryError::Failed { cmd, said } if said.is_empty() => write!(f, "`{cmd}' failed"),
            QueryError::Failed { cmd, said } => write!(f, "`{cmd}' failed: {said}"),
            QueryError::NotUnderstood { cmd, what } if what.is_empty() => {
                write!(f, "`{cmd}' printed nothing")
            }
            QueryError::NotUnderstood { cmd, what } => {
                write!(f, "`{cmd}' printed what is not understood: {what}")
            }
            QueryError::NotAsked(failure) => failure.fmt(f),
        }
    }
}

impl From<Failure> for QueryError {
    fn from(failure: Failure) -> QueryError {
        QueryError::NotAsked(failure)
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Failure {
        match error {
            QueryError::NotAsked(failure) => failure,
            other => Failure::Failed(other.to_string()),
        }
    }
}

/// What a program that ends well prints.
///
/// # Errors
/// It failed, or could not be asked.
pub fn text(host: &mut dyn Host, cmd: &Cmd) -> Result<Zeroizing<String>, QueryError> {
    let answer = host.query(cmd)?;
    if answer.ok {
        return Ok(Zeroizing::new(
            String::from_utf8_lossy(&answer.out).into_owned(),
        ));
    }
    Err(QueryError::Failed {
        cmd: cmd.clone(),
        said: answer.said,
    })
}

/// What `read` makes of the text that a program prints; `None` if it is not understood.
///
/// # Errors
/// See [`QueryError`].
pub fn parsed<T>(
    host: &mut dyn Host,
    cmd: &Cmd,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, QueryError> {
    let printed = text(host, cmd)?;
    read(&printed).ok_or_else(|| QueryError::not_understood(cmd, &printed))
}

/// The first answer, or else that to another form of the question.
///
/// # Errors
/// Neither form was answered; both are told.
pub fn or_else<T>(
    host: &mut dyn Host,
    first: Result<T, QueryError>,
    other: impl FnOnce(&mut dyn Host) -> Result<T, QueryError>,
) -> Result<T, Failure> {
    match first {
        Ok(answer) => Ok(answer),
        Err(QueryError::NotAsked(failure)) => Err(failure),
        Err(error) => match other(host) {
            Ok(answer) => Ok(answer),
            Err(QueryError::NotAsked(failure)) => Err(failure),
            Err(second) => Err(Failure::Failed(format!("{second} (and {error})"))),
        },
    }
}
