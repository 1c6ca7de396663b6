use crate::probe::Scenario;

mod aborted;
mod foreign_origin;
mod gone_at_once;
mod no_key;
mod no_upgrade;
mod no_version;
mod oversized;
mod plain_get;
mod post;
mod short_key;
mod subprotocols;
mod unknown_path;
mod valid;
mod version;

pub(super) static ALL: [Scenario; 14] = [
    valid::SCENARIO,
    plain_get::SCENARIO,
    version::SCENARIO,
    no_version::SCENARIO,
    no_key::SCENARIO,
    short_key::SCENARIO,
    post::SCENARIO,
    no_upgrade::SCENARIO,
    unknown_path::SCENARIO,
    foreign_origin::SCENARIO,
    subprotocols::SCENARIO,
    oversized::SCENARIO,
    aborted::SCENARIO,
    gone_at_once::SCENARIO,
];
