//! All scenarios, by group: each is a file.

use crate::probe::Scenario;

mod authentication;
mod closing;
mod compression;
mod handshake;
mod limits;
mod liveness;
mod messages;

/// In the order in which they are reported.
static GROUPS: [&[Scenario]; 7] = [
    &handshake::ALL,
    &authentication::ALL,
    &messages::ALL,
    &closing::ALL,
    &liveness::ALL,
    &limits::ALL,
    &compression::ALL,
];

pub(super) fn all() -> impl Iterator<Item = &'static Scenario> {
    GROUPS.iter().copied().flatten()
}
