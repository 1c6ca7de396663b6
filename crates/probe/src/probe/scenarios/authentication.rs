use crate::probe::Scenario;

mod garbage;
mod none;

pub(super) static ALL: [Scenario; 2] = [none::SCENARIO, garbage::SCENARIO];
