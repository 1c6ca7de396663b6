use crate::probe::Scenario;

mod burst;

pub(super) static ALL: [Scenario; 1] = [burst::SCENARIO];
