//! What a scenario comes to.

use std::fmt;

/// How a server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should.
    Pass,
    /// Nothing to judge, and worth knowing.
    Info,
    /// It could not be tried.
    Skipped,
    /// Permitted, and worse for its clients than it need be.
    NonStrict,
    /// Wrong.
    Fail,
    /// The server was not there.
    Unreachable,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Pass, Self::NonStrict, Self::Fail, Self::Info, Self::Skipped, Self::Unreachable];

    /// A stable word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Info => "info",
            Self::Skipped => "skipped",
            Self::NonStrict => "non-strict",
            Self::Fail => "fail",
            Self::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// What was found, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How the server did.
    pub verdict: Verdict,
    /// What it did.
    pub got: String,
    /// What a page in a browser would have seen: its close code and reason.
    pub browser: String,
}

impl Finding {
    pub(crate) fn new(verdict: Verdict, got: impl Into<String>, browser: impl Into<String>) -> Self {
        Self { verdict, got: got.into(), browser: browser.into() }
    }

    pub(crate) fn skipped(why: impl Into<String>) -> Self {
        Self::new(Verdict::Skipped, why, "")
    }
}
