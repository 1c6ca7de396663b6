use crate::probe::Scenario;

mod compressed;
mod continuation_first;
mod control_opcode;
mod deep;
mod empty;
mod endless;
mod fragmented_control;
mod half_a_character;
mod huge;
mod interleaved;
mod length_form;
mod long_control;
mod malformed_json;
mod missing_field;
mod not_utf_8;
mod opcode;
mod reserved_bit;
mod unknown_type;
mod unmasked;

pub(super) static ALL: [Scenario; 19] = [
    unmasked::SCENARIO,
    reserved_bit::SCENARIO,
    compressed::SCENARIO,
    opcode::SCENARIO,
    control_opcode::SCENARIO,
    long_control::SCENARIO,
    fragmented_control::SCENARIO,
    continuation_first::SCENARIO,
    interleaved::SCENARIO,
    length_form::SCENARIO,
    not_utf_8::SCENARIO,
    half_a_character::SCENARIO,
    huge::SCENARIO,
    endless::SCENARIO,
    empty::SCENARIO,
    malformed_json::SCENARIO,
    unknown_type::SCENARIO,
    missing_field::SCENARIO,
    deep::SCENARIO,
];
