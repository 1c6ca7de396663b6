use crate::probe::Scenario;

mod ping;
mod ping_inside;
mod pong;

pub(super) static ALL: [Scenario; 3] = [ping::SCENARIO, pong::SCENARIO, ping_inside::SCENARIO];
