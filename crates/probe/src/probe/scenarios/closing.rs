use crate::probe::Scenario;

mod code_5000;
mod code_999;
mod data_after_close;
mod empty;
mod going_away;
mod half_close;
mod long_reason;
mod normal;
mod one_byte;
mod private;
mod reason_not_utf_8;
mod reserved_1005;
mod reserved_1006;

pub(super) static ALL: [Scenario; 13] = [
    normal::SCENARIO,
    going_away::SCENARIO,
    private::SCENARIO,
    empty::SCENARIO,
    one_byte::SCENARIO,
    reserved_1005::SCENARIO,
    reserved_1006::SCENARIO,
    code_999::SCENARIO,
    code_5000::SCENARIO,
    reason_not_utf_8::SCENARIO,
    long_reason::SCENARIO,
    data_after_close::SCENARIO,
    half_close::SCENARIO,
];
