use crate::probe::Scenario;

mod bad_parameters;

pub(super) static ALL: [Scenario; 1] = [bad_parameters::SCENARIO];
