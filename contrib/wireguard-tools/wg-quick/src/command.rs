// SPDX-License-Identifier: BSD-2-Clause
//! One call of a program.

use std::fmt;

use zeroize::Zeroizing;

/// A program, its arguments, and what it reads. Shown as the words with spaces between them; what it reads may hold
/// keys and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Cmd {
    words: Vec<String>,
    input: Option<Zeroizing<Vec<u8>>>,
}

impl Cmd {
    /// From the program's name and its arguments; there is always a name.
    pub fn new(program: &str, arguments: impl IntoIterator<Item = String>) -> Cmd {
        let words = std::iter::once(program.to_owned()).chain(arguments);
        Cmd {
            words: words.collect(),
            input: None,
        }
    }

    /// With these bytes on its standard input, which is otherwise empty.
    #[must_use]
    pub fn with_input(mut self, input: Zeroizing<Vec<u8>>) -> Cmd {
        self.input = Some(input);
        self
    }

    /// Name of the program, to be found in PATH.
    pub fn program(&self) -> &str {
        &self.words[0]
    }

    /// The arguments.
    pub fn arguments(&self) -> &[String] {
        &self.words[1..]
    }

    /// What is to be on its standard input.
    pub fn input(&self) -> Option<&Zeroizing<Vec<u8>>> {
        self.input.as_ref()
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

impl fmt::Debug for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// A [`Cmd`] from its words, each a `&str` or `String`: `cmd!["ifconfig", name, "up"]`.
#[macro_export]
macro_rules! cmd {
    [$program:expr $(, $word:expr)* $(,)?] => {
        $crate::command::Cmd::new($program, [$($word.to_string()),*])
    };
}
