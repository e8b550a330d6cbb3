// SPDX-License-Identifier: BSD-2-Clause
//! wg-quick(8): sets up a WireGuard interface from a file, and takes it down.
//!
//! - [`config`]: the file, all of it, with every error, before anything is touched.
//! - [`command`], [`plan`]: what is to be done, as data: programs to run, each with what undoes it.
//! - [`os`]: FreeBSD's and Linux's way, as functions from a configuration and what was observed to a plan. Both are
//!   compiled everywhere, so that both are tested everywhere.
//! - [`hook`]: the user's shell code.
//! - [`host`]: what a plan needs of a machine; [`real`] is this one, [`dry`] only tells. [`query`]: what is asked of it.
//! - [`up`], [`down`], [`save`]: the subcommands. [`monitor`]: keeps FreeBSD's routes to endpoints right.
//!
//! Nothing secret is in an argument or a variable of a process: keys go from file to wg(8) by its standard input.
#![forbid(unsafe_code)]

pub mod cli;
pub mod command;
pub mod config;
pub mod dns;
pub mod down;
pub mod dry;
pub mod file;
pub mod hook;
pub mod host;
pub mod monitor;
pub mod os;
pub mod plan;
pub mod query;
pub mod real;
pub mod save;
pub mod up;
